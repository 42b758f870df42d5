"""Every line of the security model's tables names a test that attacks the boundary, and that test exists."""

from __future__ import annotations

import ast
import functools
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[2]
MODEL = TOP / "docs/SECURITY_MODEL.md"
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def lines() -> list[tuple[int, list[str]]]:
    """The rows of every table whose last column is called "attacked by": line number and cells."""
    found, inside = [], False
    for number, line in enumerate(MODEL.read_text("utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[-1] == "attacked by":
            inside = True
        elif inside and set(line) - set("|- "):
            found.append((number, cells))
    return found


@functools.cache
def defined_in(file: str) -> set[str]:
    """Names of the test functions of a file below tests/; empty when there is no such file."""
    path = TOP / "tests" / file
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_model_has_boundaries():
    assert len(lines()) >= 30


def test_each_line_of_the_model_names_a_test():
    assert [number for number, cells in lines() if not TEST.search(cells[-1])] == []


def test_each_named_test_exists():
    named = [(number, file, name) for number, cells in lines() for file, name in TEST.findall(cells[-1])]
    assert [f"line {number}: {file}::{name}" for number, file, name in named if name not in defined_in(file)] == []
