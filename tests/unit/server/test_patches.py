"""engine = threads names each place where an application replaces the standard library, with a gevent that is none."""

from __future__ import annotations

import importlib
import sys

import pytest

from apid.server.engines.threads.patches import Patches

MONKEY = """
def patch_thread(**options):
    return "patched"

def patch_all(**options):
    return patch_thread(**options)
"""

APP = """
from gevent import monkey
from gevent.monkey import patch_thread

def at_import():
    return patch_thread(existing=False)

def later():
    return monkey.patch_all()
"""


@pytest.fixture
def patches(tmp_path, monkeypatch):
    """A watch over a package of this name."""
    (tmp_path / "gevent").mkdir()
    (tmp_path / "gevent" / "__init__.py").touch()
    (tmp_path / "gevent" / "monkey.py").write_text(MONKEY)
    (tmp_path / "patching.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("gevent", "gevent.monkey", "patching"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    one = Patches()
    one.watch()
    yield one
    for name in ("gevent", "gevent.monkey", "patching"):
        sys.modules.pop(name, None)


def test_what_patches_while_it_loads_is_given_once_and_what_patches_later_is_logged_once(patches, tmp_path, caplog):
    app = importlib.import_module("patching")
    assert app.at_import() == app.at_import() == "patched"
    (text,) = patches.loaded()
    assert text.startswith(f"{tmp_path}/patching.py:6 replaces the standard library (gevent.patch_thread), ")
    assert app.at_import() == app.later() == app.later() == "patched"
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}/patching.py:9 replaces the standard library (gevent.patch_all), ")


def test_an_application_that_only_imports_it_is_not_named(patches):
    importlib.import_module("patching")
    assert patches.loaded() == []
