"""The functions of the options after_load, after_fork and before_exit: found by name, called with slot, generation and pid."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
from typing import Any

from apid.conf.settings import Hooks as Settings
from apid.errors import ConfigError, PipelineError
from apid.loggers import logger

LOG = logger("apid.worker")

Hook = Callable[[int, int, int], object]

NAMES = ("after_load", "after_fork", "before_exit")

OF_A_MOLD = -1
"""The slot of a process that forks workers and is none."""


class Hooks:
    """Those of one process."""

    def __init__(self, settings: Settings) -> None:
        """Import them.

        Raises:
            ConfigError: one cannot be imported, or is no function. PipelineError: its module raises.
        """
        self._where = settings.where
        names = {name: getattr(settings, name) for name in NAMES}
        self._functions = {name: self._find(name, text) for name, text in names.items() if text}

    def after_load(self, slot: int, generation: int) -> None:
        """Call it; raises PipelineError with its traceback."""
        self._call("after_load", slot, generation)

    def after_fork(self, slot: int, generation: int) -> None:
        """Call it; raises PipelineError with its traceback."""
        self._call("after_fork", slot, generation)

    def before_exit(self, slot: int, generation: int) -> None:
        """Call it; what it raises is logged."""
        try:
            self._call("before_exit", slot, generation)
        except PipelineError as error:
            LOG.error("%s", error, extra={"block": error.detail})  # noqa: TRY400 - the traceback is the block

    def _call(self, name: str, slot: int, generation: int) -> None:
        function = self._functions.get(name)
        if function is None:
            return
        try:
            function(slot, generation, os.getpid())
        except Exception as error:
            raise self._failed(name, error) from error

    def _find(self, name: str, text: str) -> Hook:
        module, _, attributes = text.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{self._where[name]}: {error}") from None
        except AttributeError as error:
            raise ConfigError(f"{self._where[name]}: {error}") from None
        except Exception as error:
            raise self._failed(name, error) from error
        if not callable(found):
            raise ConfigError(f"{self._where[name]}: it is no function")
        hook: Hook = found
        return hook

    def _failed(self, name: str, error: Exception) -> PipelineError:
        text = f"{self._where[name]}: {type(error).__name__}: {error}"
        return PipelineError(" ".join(text.split()), "".join(traceback.format_exception(error)))
