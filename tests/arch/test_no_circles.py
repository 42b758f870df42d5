"""Modules import each other in one direction only, also where a type checker alone sees the import."""

from __future__ import annotations

import ast
import graphlib
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def module_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """Of each module of apid the modules that it names, wherever in it."""
    known = {module_of(path): path for path in (ROOT / "apid").rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{one.name}" for one in node.names}
            elif isinstance(node, ast.Import):
                names |= {one.name for one in node.names}
        found[name] = {one for one in names if one in known and one != name}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


def test_no_module_imports_itself_in_a_circle():
    graph = imports()
    # a package that only gathers the names of its modules is not a link of a chain
    packages = {name for name in graph if any(other.startswith(name + ".") for other in graph)}
    assert circle({name: found - packages for name, found in graph.items() if name not in packages}) == []


def test_it_sees_what_only_a_type_checker_imports():
    found = imports()
    assert "apid.server.timer_wheel" in found["apid.server.engines.base"]
    assert sum(len(one) for one in found.values()) > 300
