"""The version of the running program, read once: a virtualenv may be moved away or half replaced under a daemon that runs."""

from __future__ import annotations

import importlib.metadata


def _read() -> str:
    try:
        return importlib.metadata.version("apid")
    except importlib.metadata.PackageNotFoundError:
        return (
            "unknown"  # the distribution is being replaced: no reason to end a daemon that has just become this program
        )


VERSION = _read()
