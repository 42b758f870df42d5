"""Whether the interpreter runs with its lock (GIL), and which extension module turned it on in a free-threaded build.

Such a build starts without the lock. Loading an extension that does not declare that it can do without turns it on for the whole
process and for good, with a RuntimeWarning that the filters of the application may suppress.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_Loader: Any = importlib.machinery.ExtensionFileLoader


def is_enabled() -> bool:
    """Return whether it is; before Python 3.13 it always is."""
    ask = getattr(sys, "_is_gil_enabled", None)
    return ask is None or bool(ask())


@contextmanager
def watched() -> Iterator[list[str]]:
    """Give a list that gets a text for the operator when an extension turns it on; what is loaded in the block is looked at."""
    found: list[str] = []
    if is_enabled():
        yield found
        return
    create = _Loader.create_module

    def look(loader: Any, spec: Any) -> Any:
        module = create(loader, spec)
        if not found and is_enabled():
            found.append(
                f"the extension module {spec.name} ({spec.origin}) has turned the interpreter lock (GIL) on: the threads of "
                "this worker compute one at a time"
            )
        return module

    _Loader.create_module = look
    try:
        yield found
    finally:
        _Loader.create_module = create
