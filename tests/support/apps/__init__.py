"""Applications with one habit each, loaded by paste in the worker; none imports apid.

Each module has `factory(global_conf, **local_conf)`; `pipeline(name, option=value)` is the ini text that serves it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def original(name: str) -> ModuleType:
    """Return a module of the standard library as it is before eventlet replaces it; without eventlet, the module itself."""
    if "eventlet" in sys.modules:
        from eventlet import patcher

        return patcher.original(name)
    return importlib.import_module(name)


def pipeline(name: str, **options: object) -> str:
    """Return the paste ini that serves the application `tests.support.apps.NAME` as app:main."""
    lines = ["[app:main]", f"paste.app_factory = tests.support.apps.{name}:factory"]
    lines += [f"{option} = {value}" for option, value in options.items()]
    return "\n".join(lines) + "\n"
