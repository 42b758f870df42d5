"""What a filter says when the package it stands on is not installed."""

from __future__ import annotations

import importlib
from typing import Any


class ExtraMissingError(ImportError):
    """A filter needs an optional part of apid's installation."""


def needed(module: str, filter_name: str, extra: str) -> Any:
    """Import a module that an extra of apid brings.

    Raises:
        ExtraMissingError: it is not installed, or does not load; names the filter, the extra and the cause.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraMissingError(
            f"{filter_name}: needs {module.partition('.')[0]}, which is an extra: pip install 'apid[{extra}]' ({error})"
        ) from error
