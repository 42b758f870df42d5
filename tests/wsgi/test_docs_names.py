"""Every name of the toolkit, and every entry point, that the pages for authors mention exists."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["WRITING_AN_API.md", "WRITING_A_FILTER.md", "FROM_NOVA_AND_GLANCE.md"]
NAME = re.compile(r"(?<![\w./])apid\.(?:wsgi|api)(?:\.\w+)+(?::\w+(?:\.\w+)*)?")
EGG = re.compile(r"egg:apid#([a-z]\w*)")


def resolve(name):
    """Import the longest module and take the rest as attributes."""
    parts = name.replace(":", ".").split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    names = {name for name in NAME.findall(text) if not name.startswith("apid.api.v1.")}  # an entry point group
    assert names
    for name in sorted(names):
        resolve(name)


@pytest.mark.parametrize("page", PAGES)
def test_entry_points_exist(page):
    known = {
        entry.name for group in ("app", "filter", "composite") for entry in entry_points(group=f"paste.{group}_factory")
    }
    assert set(EGG.findall((DOCS / page).read_text(encoding="utf-8"))) <= known
