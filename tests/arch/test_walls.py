"""The walls between the floors hold, in a Python that really imports them; import-linter (bin/test) reads, this one looks.

What import-linter cannot see is what a third-party module pulls in: the parent must end up without eventlet whatever it imports.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from apid.errors import ExitCode

TOP = pathlib.Path(__file__).resolve().parents[2]
ENGINE = {"eventlet", "greenlet", "paste", "webob", "routes"}
DAEMON = {
    f"apid.{name}"
    for name in [
        "cli",
        "parent",
        "worker",
        "server",
        "channel",
        "status",
        "bulletin",
        "scoreboard",
        "log",
        "conf",
        "posix",
        "errors",
    ]
}
FORBIDDEN_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}

IMPORT_ALL = """
import sys
before = set(sys.modules)
import importlib, pkgutil
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
print(" ".join(sorted(set(sys.modules) - before)))
"""


def loaded_by(*names: str) -> set[str]:
    """Names of all modules that a fresh Python adds when it imports these and everything below them.

    What it holds from the start is the business of site-packages: Paste's .pth files put an empty `paste` there.
    """
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def below(modules: set[str], roots: set[str]) -> set[str]:
    """Those of `modules` that are one of `roots` or inside it."""
    return {module for module in modules if any(module == root or module.startswith(root + ".") for root in roots)}


def test_the_parent_holds_no_eventlet_paste_webob_or_routes():
    modules = loaded_by(
        "apid.cli", "apid.parent", "apid.conf", "apid.posix", "apid.log", "apid.channel", "apid.scoreboard"
    )
    assert {"apid.cli", "apid.parent"} <= modules
    # a worker's first modules are imported before the fork: what is installed may be moved away afterwards
    assert below(modules, ENGINE | {"apid.worker", "apid.server", "apid.wsgi", "apid.api"}) == {
        "apid.worker",
        "apid.worker.boot",
        "apid.worker.ending",
    }


def test_the_ground_of_both_towers_is_the_standard_library():
    modules = loaded_by("apid.forwarded", "apid.hosts")
    assert below(modules, {"apid"}) == {"apid", "apid.forwarded", "apid.hosts"}
    roots = {name.partition(".")[0] for name in modules} - {"apid", "__main__"}
    assert {name for name in roots if name not in sys.stdlib_module_names} == set()


def test_the_posix_wrappers_need_the_standard_library_only():
    modules = loaded_by("apid.posix", "apid.channel", "apid.scoreboard", "apid.errors")
    roots = {name.partition(".")[0] for name in modules} - {"apid", "__main__"}
    assert {name for name in roots if name not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("tower", [("apid.wsgi",), ("apid.api",)])
def test_the_toolkit_and_the_default_api_never_meet_the_daemon(tower):
    modules = loaded_by(*tower)
    assert below(modules, DAEMON) == set()
    assert below(modules, {"eventlet", "greenlet"}) == set()


def test_the_daemon_never_meets_the_toolkit():
    modules = loaded_by(*sorted(DAEMON - {"apid.server", "apid.worker"}))
    assert below(modules, {"apid.wsgi", "apid.api"}) == set()
    modules = loaded_by("apid.server", "apid.worker")
    assert below(modules, {"apid.wsgi", "apid.api"}) == set()


def test_no_module_is_called_util_common_helpers_or_manager():
    names = {path.stem for path in (TOP / "apid").rglob("*.py")} | {
        p.name for p in (TOP / "apid").rglob("*") if p.is_dir()
    }
    assert names & FORBIDDEN_NAMES == set()


def test_no_file_is_longer_than_400_lines():
    files = [path for part in ("apid", "tests") for path in (TOP / part).rglob("*.py") if "corpus" not in path.parts]
    lengths = {str(path.relative_to(TOP)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: n for path, n in lengths.items() if n > 400} == {}
    assert len(lengths) > 20


def test_every_module_says_what_lives_in_it():
    files = list((TOP / "apid").rglob("*.py"))
    silent = [
        str(p.relative_to(TOP)) for p in files if not p.read_text(encoding="utf-8").lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_the_table_of_exit_codes_is_the_code_s():
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    _, _, table = readme.partition("| exit code | means |")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table.partition("\n\n")[0], re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code.value for code in ExitCode]
