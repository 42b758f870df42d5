"""Notices an application that replaces the standard library by a green one: native threads are of no use to it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from apid.loggers import logger

LOG = logger(__name__)

PATCHING = {"eventlet.patcher": "monkey_patch", "gevent.monkey": "patch_"}
"""Modules with functions that replace parts of the standard library, and how the names of those functions begin."""


class Patches:
    """Watches imports, so that none of these modules is imported for the sake of the look."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self._loaded = False

    def watch(self) -> None:
        """Look at each import from now on."""
        sys.meta_path.insert(0, self)

    def loaded(self) -> list[str]:
        """Return a text for each place that has called one of the functions; the log gets those that do so from now on."""
        self._loaded = True
        return list(self._found)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Of these modules, what the other finders find; of all others nothing (importlib's protocol)."""
        if name not in PATCHING:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((one for one in specs if one is not None), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = functools.partial(self._exec, load, PATCHING[name])  # type: ignore[method-assign]  # of this one
        return spec

    def _exec(self, load: Callable[[ModuleType], None], begin: str, module: ModuleType) -> None:
        load(module)
        for name, function in list(vars(module).items()):
            if name.startswith(begin) and callable(function):
                setattr(module, name, self._noting(function, module.__name__, name))

    def _noting(self, function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def patch(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)  # noqa: SLF001 - its only name
            if caller.f_globals.get("__name__") != module:  # else one of these functions calls another
                self._note(f"{caller.f_code.co_filename}:{caller.f_lineno}", f"{module.partition('.')[0]}.{name}")
            return function(*args, **kwargs)

        return patch

    def _note(self, where: str, called: str) -> None:
        text = (
            f"{where} replaces the standard library ({called}), which does not go together with native threads; "
            "engine = eventlet is made for such an application"
        )
        if self._loaded and text not in self._found:
            LOG.warning("%s", text)
        self._found[text] = None
