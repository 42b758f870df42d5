"""Notices an application that replaces the standard library by a green one: native threads are of no use to it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PATCHING = {"eventlet.patcher": "monkey_patch", "gevent.monkey": "patch_all"}
"""Modules whose function replaces parts of the standard library."""


class Patches:
    """Watches imports, so that none of these modules is imported for the sake of the look.

    Attributes:
        found: a text for each place that has called one of the functions.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def watch(self) -> None:
        """Look at each import from now on."""
        sys.meta_path.insert(0, self)

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

    def _exec(self, load: Callable[[ModuleType], None], name: str, module: ModuleType) -> None:
        load(module)
        function = getattr(module, name, None)
        if callable(function):
            setattr(module, name, self._noting(function, f"{module.__name__.partition('.')[0]}.{name}"))

    def _noting(self, function: Callable[..., Any], called: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def patch(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)  # noqa: SLF001 - its only name
            self.found.append(
                f"{caller.f_code.co_filename}:{caller.f_lineno} replaces the standard library ({called}), which does not "
                "go together with native threads; engine = eventlet is made for such an application"
            )
            return function(*args, **kwargs)

        return patch
