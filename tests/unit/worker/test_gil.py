"""The GIL of a free-threaded build: such a build is faked, because none runs these tests."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys

import pytest

from apid.worker import gil

CREATE = importlib.machinery.ExtensionFileLoader.create_module


@pytest.fixture
def extension(monkeypatch):
    """Name of an extension module of the standard library that is loaded when it is imported, and that is not loaded now."""
    for name in ("_lsprof", "_crypt", "_xxtestfuzz", "_testbuffer", "_dbm", "_curses_panel"):
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
            monkeypatch.delitem(sys.modules, name, raising=False)
            return name
    pytest.skip("this Python has all its extension modules built in")


def fake(monkeypatch, *answers):
    """Let `sys._is_gil_enabled` say one after the other, the last one again and again."""
    left = list(answers)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: left.pop(0) if len(left) > 1 else left[0], raising=False)


def test_a_python_that_cannot_be_asked_has_it_on(monkeypatch):
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert gil.is_enabled() is True
    fake(monkeypatch, False)
    assert gil.is_enabled() is False


def test_the_extension_that_turned_it_on_is_named_once(monkeypatch, extension):
    fake(monkeypatch, False, True)
    with gil.watched() as found:
        importlib.import_module(extension)
        del sys.modules[extension]
        importlib.import_module(extension)
    assert len(found) == 1
    assert f"the extension module {extension} (/" in found[0]
    assert "has turned the interpreter lock (GIL) on" in found[0]
    assert importlib.machinery.ExtensionFileLoader.create_module is CREATE


@pytest.mark.parametrize("enabled", [False, True])
def test_one_that_changes_nothing_is_not_named(monkeypatch, extension, enabled):
    fake(monkeypatch, enabled)
    with gil.watched() as found:
        importlib.import_module(extension)
    assert found == []


def test_a_load_that_fails_leaves_nothing_behind(monkeypatch):
    fake(monkeypatch, False)
    with pytest.raises(ZeroDivisionError), gil.watched():
        raise ZeroDivisionError
    assert importlib.machinery.ExtensionFileLoader.create_module is CREATE
