"""Docstrings, comments and documents name only files, options and symbols that exist, and link only to files that exist.

A word is checked if it contains an underscore, is in CamelCase, or ends like a file name. It exists if the code uses it anywhere,
as a name or within a string.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import io
import keyword
import pathlib
import re
import subprocess
import tokenize
from collections.abc import Iterator

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SYSTEM = ("configparser", "errno", "fcntl", "gzip", "os", "select", "signal", "socket", "ssl", "tempfile")
"""Modules of the standard library whose names may be used freely."""

EXTERNAL = {
    "DevTools": "Chromium",
    "JOURNAL_NATIVE_PROTOCOL": "systemd's document",
    "JavaScript": "the language",
    "LC_MESSAGES": "gettext(3)",
    "NO_COLOR": "no-color.org",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "OpenTelemetry",
    "OTEL_TRACES_SAMPLER": "OpenTelemetry",
    "OpenMetrics": "the exposition format",
    "OpenTelemetry": "OpenTelemetry",
    "PR_SET_CHILD_SUBREAPER": "prctl(2)",
    "PR_SET_PDEATHSIG": "prctl(2)",
    "PasteDeploy": "the library",
    "RoutesMiddleware": "Routes",
    "SA_ONSTACK": "sigaction(2)",
    "SK_MEMINFO_DROPS": "sock_diag(7)",
    "SQLITE_BUSY_SNAPSHOT": "SQLite",
    "WebDriver": "W3C",
    "admin_v1": "an example in an ini",
    "api_v1": "an example in an ini",
    "close_notify": "RFC 8446",
    "delay_auth_decision": "keystonemiddleware",
    "epoll_wait": "epoll_wait(2)",
    "keystone_authtoken": "keystonemiddleware's section",
    "keystone_nolimit": "an example in an ini",
    "l_len": "fcntl(2)",
    "l_pid": "fcntl(2)",
    "l_start": "fcntl(2)",
    "l_type": "fcntl(2)",
    "l_whence": "fcntl(2)",
    "max_dgram_qlen": "unix(7)",
    "mod_ssl": "Apache",
    "name_links": "the form of a key: animals_links",
    "oslo.service": "the library",
    "readonly.py": "the reader's, in a tutorial",
    "sd_listen_fds": "systemd",
    "sd_notify": "systemd",
    "sock_diag": "sock_diag(7)",
    "sun_path": "unix(7)",
    "tcp_info": "tcp(7)",
    "tcpi_sacked": "tcp(7)",
    "tcpi_unacked": "tcp(7)",
}
"""Words of other projects, each with its source. An entry is stale if no text uses it, or if the code now has the name itself."""

FILE = re.compile(r"[\w/.-]*\w\.(?:py|md|ini|conf|toml|service|socket)\b")
WORD = re.compile(
    r"\b(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z][a-z0-9]*(?:_[a-z0-9]+)+|[A-Z][a-z]+(?:[A-Z][a-z]+)+)\b", re.ASCII
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
EXAMPLES = re.compile(r"^```.*?^```$|<!--.*?-->", re.MULTILINE | re.DOTALL)


def tracked() -> list[pathlib.Path]:
    """The files of the repository, including untracked ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.splitlines()
    return [TOP / name for name in listed if (TOP / name).exists()]


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a bare string: a docstring, or the description of an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def texts(source: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings and comments, with their lines."""
    yield from ((node.lineno, node.value.value) for node in ast.walk(tree) if is_text(node))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names(tree: ast.AST) -> Iterator[str]:
    """Every name in a module, and every word in its strings."""
    prose = {id(node.value) for node in ast.walk(tree) if is_text(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from name.split(".")
                yield other or ""
            case ast.Constant(value=str(value)) if id(node) not in prose:
                yield from re.findall(r"\w+", value)


def parsed(part: str) -> dict[pathlib.Path, tuple[str, ast.AST]]:
    """Source and tree of the modules below a folder, without applications of other projects and without benchmarks."""
    found = {}
    for path in (TOP / part).rglob("*.py"):
        if path != pathlib.Path(__file__) and not {"corpus", "originals", "bench"} & set(path.parts):
            source = path.read_text(encoding="utf-8")
            found[path] = source, ast.parse(source)
    return found


class Vocabulary:
    """The names that exist: for texts in apid/ those of apid/, for texts in tests/ those of both."""

    def __init__(self) -> None:
        self.modules = {part: parsed(part) for part in ("apid", "tests")}
        self.files = {path.name for path in tracked()}
        known = {*keyword.kwlist, *dir(builtins), *(path.stem for path in tracked())}
        for module in SYSTEM:
            known.update(dir(importlib.import_module(module)))
        self.known = {}
        for part, modules in self.modules.items():
            for path, (_, tree) in modules.items():
                known.update(names(tree), path.relative_to(TOP).with_suffix("").parts)
            self.known[part] = frozenset(known)

    def unknown(self, part: str) -> Iterator[tuple[str, str]]:
        """Each (place, word) that does not exist, external words included."""
        for path, (source, tree) in self.modules[part].items():
            for line, text in texts(source, tree):
                place = f"{path.relative_to(TOP)}:{line}"
                yield from ((place, name) for name in FILE.findall(text) if pathlib.Path(name).name not in self.files)
                yield from ((place, word) for word in WORD.findall(text) if word not in self.known[part])


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary()


@pytest.mark.parametrize("part", ["apid", "tests"])
def test_docstrings_and_comments_name_what_is_there(vocabulary, part):
    wrong = [f"{place}: {word}" for place, word in vocabulary.unknown(part) if word not in EXTERNAL]
    assert wrong == []


def test_no_exception_is_stale(vocabulary):
    used = {word for part in vocabulary.modules for _, word in vocabulary.unknown(part)}
    assert set(EXTERNAL) - used - {name for _, name in named_in_documents()} == set()


def documents() -> list[pathlib.Path]:
    return [path for path in tracked() if path.suffix == ".md" and "tests" not in path.relative_to(TOP).parts]


def anchors(document: pathlib.Path) -> set[str]:
    """The fragments that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ +(.+)$", EXAMPLES.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_documents_link_to_what_is_there():
    wrong = []
    for document in documents():
        for link in LINK.findall(EXAMPLES.sub("", document.read_text(encoding="utf-8"))):
            target, _, fragment = link.partition("#")
            file = document.parent / target if target else document
            if "://" in link or link.startswith("mailto:"):
                continue
            if not file.exists() or (fragment and file.suffix == ".md" and fragment not in anchors(file)):
                wrong.append(f"{document.relative_to(TOP)}: {link}")
    assert len(documents()) > 10
    assert wrong == []


def named_in_documents() -> Iterator[tuple[str, str]]:
    """Each (document, name) of a module or document that does not exist, external names included."""
    there = {path.name for path in tracked()}
    for document in documents():
        for name in re.findall(r"[\w/.-]*\w\.(?:py|md)\b", EXAMPLES.sub("", document.read_text(encoding="utf-8"))):
            if pathlib.Path(name).name not in there:
                yield str(document.relative_to(TOP)), name


def test_documents_name_files_that_are_there():
    wrong = [f"{document}: {name}" for document, name in named_in_documents() if name not in EXTERNAL]
    assert wrong == []
