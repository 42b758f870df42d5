"""Every mistake in a pipeline is a sentence with file, line, section and cause."""

from __future__ import annotations

import importlib.metadata

import pytest

from apid.conf.settings import Paste
from apid.errors import PipelineError
from apid.worker import pipeline

PASTE_URLMAP = "[composite:main]\nuse = egg:Paste#urlmap\ndefault = x\n[app:x]\nuse = parts.app\n"


def error(path: str, name: str = "main") -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        pipeline.load(Paste(path, name))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return caught.value


A = "[app:a]\nuse = parts.app\n"
MISTAKES = [
    # unknown names
    ("", "main", ": there is no section [app:main] or [composite:main] or [pipeline:main] or [filter-app:main]"),
    ("[app:mian]\nuse = parts.app\n", "main", " or [filter-app:main]; did you mean mian?"),
    ("[pipeline:main]\npipeline = nope a\n" + A, "main", ":1: [pipeline:main]: there is no section [filter:nope]"),
    (
        "[pipeline:main]\npipeline = a a\n" + A,
        "main",
        ":1: [pipeline:main]: there is no section [filter:a]; there is [app:a], which is of",
    ),
    (
        "[pipeline:main]\npipeline = a\n[app:b]\nuse = c\n",
        "main",
        ":1: [pipeline:main]: there is no section [app:a] or",
    ),
    (
        "[pipeline:main]\npipeline = b\n[app:b]\nuse = c\n",
        "main",
        ":3: [app:b] (in [pipeline:main]): there is no section [app:c] or",
    ),
    (
        "[composite:main]\nuse = parts.composite\ndefault = x\n",
        "main",
        ":1: [composite:main]: there is no section [app:x] or",
    ),
    # no loader, none or extra settings, ambiguous
    ("\n[app:main]\nname = x\n", "main", ":2: [app:main]: it says neither what to use (use = ...) nor which factory"),
    (
        "[pipeline:main]\n",
        "main",
        ":1: [pipeline:main]: The [pipeline:main] section in {path} is missing a 'pipeline' setting",
    ),
    ("[pipeline:main]\npipeline =\n", "main", ":1: [pipeline:main]: its option pipeline is empty: it needs"),
    ("[pipeline:main]\npipeline = a\ndebug = 1\n" + A, "main", "has extra (disallowed) settings: debug"),
    (A + "[composite:a]\nuse = parts.composite\n", "a", ": Ambiguous section names ['app:a', 'composite:a']"),
    (
        "[filter-app:main]\nuse = parts.filter\n",
        "main",
        ":1: [filter-app:main]: The [filter-app:main] section in {path} is missing a 'next'",
    ),
    ("[app:main]\nuse = ftp:x\n", "main", ":1: [app:main]: URI scheme not known: 'ftp'"),
    # distributions and entry points
    (
        "[app:main]\nuse = egg:NoSuchDist#x\n",
        "main",
        ":1: [app:main]: egg:NoSuchDist#x: no package NoSuchDist is installed",
    ),
    (
        "[app:main]\nuse = egg:PasteDeploy#nope\n",
        "main",
        ":1: [app:main]: Entry point 'nope' not found in egg 'PasteDeploy'",
    ),
    (
        "[app:main]\nuse = parts.app\nrequire = NoSuchDist\n",
        "main",
        ":1: [app:main]: call:parts_for_test:app: no package NoSuchDist is",
    ),
    # imports
    ("[app:main]\nuse = call:no_such_module:app\n", "main", "cannot be imported: No module named 'no_such_module'"),
    (
        "[app:main]\npaste.app_factory = no_such_module:app\n",
        "main",
        "no_such_module:app cannot be imported: No module named 'no_such",
    ),
    (
        "[app:main]\nuse = call:parts_for_test:nope\n",
        "main",
        "[app:main]: call:parts_for_test:nope does not exist: module 'parts_for_",
    ),
    (
        "[app:main]\npaste.app_factory = parts_for_test:nope\n",
        "main",
        "parts_for_test:nope does not exist: module 'parts_for_test' has",
    ),
    (
        "[app:main]\npaste.app_factory = parts_for_test\n",
        "main",
        "parts_for_test names a module: the factory in it is missing, as in",
    ),
    ("[app:main]\nuse = call:parts_for_test\n", "main", ":1: [app:main]: Configuration not in format module:function"),
    (
        "[app:main]\nuse = call:parts_for_test:not_callable\n",
        "main",
        "cannot be called with these options: 'int' object is not callable",
    ),
    # options of a factory
    (
        "[app:main]\nuse = parts.strict\nlimit = 1\nlimt = 2\n",
        "main",
        ":1: [app:main]: call:parts_for_test:strict takes no option limt",
    ),
    (
        "[app:main]\nuse = parts.strict\n",
        "main",
        "cannot be called with these options: strict() missing 1 required positional",
    ),
    # what a factory makes
    (
        "[app:main]\nuse = parts.nothing\n",
        "main",
        ":1: [app:main]: call:parts_for_test:nothing made None, which is not callable",
    ),
    # cycles
    ("[app:main]\nuse = main\n", "main", ":1: [app:main]: it leads back to itself: [app:main] > [app:main]"),
    ("[app:main]\nuse = b\n[app:b]\nuse = main\n", "main", "leads back to itself: [app:main] > [app:b] > [app:main]"),
    (
        A + "filter-with = f\n[filter:f]\nuse = parts.filter\nfilter-with = f\n",
        "a",
        "to itself: [filter:f] > [filter:f]",
    ),
    (
        "[composite:main]\nuse = parts.composite\ndefault = main\n",
        "main",
        "to itself: [composite:main] > [composite:main]",
    ),
    # the ini format
    (
        "[app:main]\nuse = parts.app\nx = %(nope)s\n",
        "main",
        ":1: [app:main]: the option x asks for %(nope)s, which is not defined",
    ),
    (
        "[app:main]\nuse = parts.app\nx = 5%\n",
        "main",
        ":1: [app:main]: the option x holds a stray %: write %% for a percent sign",
    ),
    ("[app:main]\nuse = parts.app\nx = %(x)s\n", "main", ":1: [app:main]: the option x refers to itself"),
    ("[app:main]\nuse = parts.app\n[app:main]\n", "main", "api.ini: line 3: the section [app:main] stands twice"),
    ("[app:main]\nuse = parts.app\nuse = b\n", "main", "api.ini: line 3: the option use stands twice in [app:main]"),
    ("use = parts.app\n", "main", "api.ini: line 1: 'use = call:parts_for_test:app' stands before any [section]"),
    ("[app:main]\nuse\n", "main", "api.ini: line 2: no option and no section: use"),
    (
        "[app:main]\nuse = parts.app\nget x = y\n",
        "main",
        ":1: [app:main]: 'get' asks for 'y', and neither [DEFAULT] nor a 'set'",
    ),
    (
        "[app:main]\nuse = config:none.ini\n",
        "main",
        ":1: [app:main]: {here}/none.ini cannot be read: No such file or directory",
    ),
]


@pytest.mark.parametrize(("text", "name", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_in_the_file(ini, tmp_path, text, name, expected):
    path = ini(text)
    caught = error(path, name)
    assert str(caught).startswith(path)
    assert expected.replace("{path}", path).replace("{here}", str(tmp_path)) in str(caught)
    assert caught.detail == ""


FAULTS = [
    (
        "[app:main]\nuse = call:parsing_for_test:app\n",
        "parsing_for_test:app failed: MissingSectionHeaderError: File contains no",
    ),
    (
        "[app:main]\nuse = parts.raising\n",
        ":1: [app:main]: call:parts_for_test:raising failed: ValueError: the database is away",
    ),
    (
        "[app:main]\nuse = parts.reads_a_file\n",
        "reads_a_file failed: FileNotFoundError: [Errno 2] No such file or directory: '/does/not",
    ),
    ("[app:main]\nuse = parts.parses\n", "parses failed: MissingSectionHeaderError: File contains no section headers."),
    (
        "[app:main]\nuse = parts.leaving\n",
        "call:parts_for_test:leaving ended the program (SystemExit: 3); what it printed says why",
    ),
    (
        "[app:main]\nuse = call:broken_for_test:app\n",
        "call:broken_for_test:app cannot be imported: No module named 'no_such_depend",
    ),
    (
        "[pipeline:main]\npipeline = f a\n[filter:f]\nuse = parts.bad_filter\n" + A,
        ":3: [filter:f] (in [pipeline:main]): call:parts_for_test:bad_filter failed: ValueError: cannot wrap",
    ),
    (
        "[composite:main]\nuse = parts.composite\ndefault = p\n[pipeline:p]\npipeline = x\n[app:x]\nuse = parts.raising\n",
        ":6: [app:x] (in [composite:main] > [pipeline:p]): call:parts_for_test:raising failed: ValueError: the database",
    ),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_of_the_applications_code_comes_with_its_traceback(ini, text, expected):
    caught = error(ini(text))
    assert expected in str(caught)
    assert caught.detail.startswith("Traceback (most recent call last):")
    assert "_for_test.py" in caught.detail


def test_the_urlmap_of_paste_without_paste_says_what_to_write(ini, monkeypatch):
    discover = importlib.metadata.Distribution.discover

    def without_paste(**wanted: str):
        return iter(()) if wanted.get("name") == "Paste" else discover(**wanted)

    monkeypatch.setattr(importlib.metadata.Distribution, "discover", without_paste)
    path = ini(PASTE_URLMAP)
    expected = (
        "egg:Paste#urlmap needs the package Paste: install it, or write egg:apid#urlmap, which takes the same lines"
    )
    assert str(error(path)) == f"{path}:1: [composite:main]: {expected}"


def test_files_that_cannot_be_read(tmp_path):
    path = str(tmp_path / "none.ini")
    assert str(error(path)) == f"{path}: the file cannot be read: No such file or directory"
    assert str(error(str(tmp_path))) == f"{tmp_path}: the file cannot be read: Is a directory"
    (tmp_path / "latin.ini").write_bytes(b"[app:main]\nuse = call:x:y\nname = Zo\xeb\n")
    assert str(error(str(tmp_path / "latin.ini"))).startswith(f"{tmp_path}/latin.ini: line 3: the byte 0xeb is not ")
    (tmp_path / "bom.ini").write_bytes(b"\xef\xbb\xbf[app:main]\nuse = call:x:y\n")
    assert str(error(str(tmp_path / "bom.ini"))).startswith(
        f"{tmp_path}/bom.ini: line 1: the file begins with a byte order mark"
    )
    (tmp_path / "uses.ini").write_text("[app:main]\nuse = config:bom.ini\n")
    assert "a file that it uses: line 1: the file begins with" in str(error(str(tmp_path / "uses.ini")))
