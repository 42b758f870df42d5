"""Every third-party import is declared: as a dependency or in an extra; for the tests, in the extra `test`."""

from __future__ import annotations

import ast
import pathlib
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

TOP = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_THE_TESTS_OWN = {"bench", "fuzz", "originals"}
"""Folders of tests/ with an extra of their own, and the applications of other projects."""

COMES_WITH = {"greenlet": "eventlet"}
"""Modules of distributions that another distribution is designed to bring."""


def distributions(requirements: list[str]) -> set[str]:
    """Normalized names (PEP 503) of the required distributions."""
    return {normalized(re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0]) for text in requirements}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(part: str) -> dict[str, str]:
    """Top-level third-party modules that are imported below a folder, each with one of the importing files."""
    found: dict[str, str] = {}
    for path in (TOP / part).rglob("*.py"):
        if NOT_THE_TESTS_OWN & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.partition(".")[0], str(path.relative_to(TOP)))
    return {m: file for m, file in found.items() if m not in sys.stdlib_module_names and m not in {"apid", "tests"}}


def undeclared(part: str, requirements: list[str]) -> list[str]:
    declared, brought_by = distributions(requirements), packages_distributions()
    return [
        f"{module} in {file}"
        for module, file in imported(part).items()
        if not {COMES_WITH.get(module, module), *map(normalized, brought_by.get(module, []))} & declared
    ]


def test_what_the_program_imports_is_declared():
    extras = PROJECT["optional-dependencies"]
    runtime = [text for name, extra in extras.items() if name not in {"test", "bench", "fuzz"} for text in extra]
    assert undeclared("apid", PROJECT["dependencies"] + runtime) == []


def test_what_the_tests_import_is_in_the_extra_of_the_tests():
    assert undeclared("tests", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]) == []


def test_no_exception_is_stale():
    used = {**imported("apid"), **imported("tests")}
    assert set(COMES_WITH) - set(used) == set()
