"""No option is accepted and ignored: every field of the settings is read somewhere in the daemon outside conf/."""

from __future__ import annotations

import ast
import dataclasses
import pathlib

from apid.conf import settings

APID = pathlib.Path(settings.__file__).resolve().parents[1]


def read_names() -> set[str]:
    """Attribute names that the daemon's code outside conf/ reads."""
    names = set()
    for path in APID.rglob("*.py"):
        if path.relative_to(APID).parts[0] in {"conf", "wsgi", "api"}:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    return names


def test_every_setting_is_read_where_it_acts():
    classes = [cls for cls in vars(settings).values() if dataclasses.is_dataclass(cls)]
    read = read_names()
    unread = {f"{cls.__name__}.{f.name}" for cls in classes for f in dataclasses.fields(cls) if f.name not in read}
    assert unread == set(), "accepted and ignored"
