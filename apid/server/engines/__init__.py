"""What runs requests: an event loop and an executor, behind one interface."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from apid.conf.settings import POOL_SIZES
from apid.errors import ConfigError

if TYPE_CHECKING:
    from apid import scoreboard
    from apid.server.engines.base import Engine


def prepare(name: str, size: int, row: scoreboard.Row | None, where: Mapping[str, str] | None = None) -> Engine:
    """Make this process ready for an engine, before the application loads.

    Args:
        name: of the engine.
        size: how many requests it runs at once.
        row: where it beats; None outside a worker.
        where: by option the beginning of an error about it.

    Raises:
        ConfigError: it cannot be had.
    """
    where = where or {}
    try:
        module = importlib.import_module(f"apid.server.engines.{name}.engine")
    except ImportError as error:
        other = next(one for one in POOL_SIZES if one != name)
        begin = where.get("engine", "engine")
        raise ConfigError(f"{begin}: {name} cannot be imported: {error}; the other engine is {other}") from error
    made: Engine = module.prepare(size, row, where.get("pool_size", f"pool_size = {size}"))
    return made
