"""docs/DEFAULT_API.md says what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from apid.api import versions
from apid.api.app import API, APIOptions
from apid.api.db.connection import Database
from apid.wsgi.factory import declared

TEXT = (Path(__file__).parents[2] / "docs" / "DEFAULT_API.md").read_text(encoding="utf-8")


def test_every_option_stands_there_with_its_default():
    table = dict(re.findall(r"^\| `(\w+)` \|(.*?)\|", TEXT, re.MULTILINE))
    shown = {one.name: "" if one.default in ("", ()) else str(one.default) for one in declared(APIOptions)}
    assert {name: default.strip() for name, default in table.items()} == shown


def test_every_path_stands_there(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/zoo.sqlite")
    for path in API(database).ROUTES:
        if not path.startswith("/{project_id}"):
            assert f"/v1{path}" in TEXT
    assert f"{versions.V1.min_version} | the first" in TEXT
    assert f"| {versions.V1.max_version} |" in TEXT
