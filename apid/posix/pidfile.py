"""The pid file: written once the daemon is there, removed by the process that wrote it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from apid.errors import ConfigError


class PidFile:
    """`path` holding this process's pid and a newline.

    Raises:
        ConfigError: another live process holds it, or it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pid = os.getpid()
        other = self._holder()
        if other not in (None, self._pid):
            raise ConfigError(f"option pid_file: {path} belongs to the running process {other}")
        try:
            self._write()
        except OSError as error:
            raise ConfigError(f"option pid_file: cannot write {path}: {error.strerror}") from error

    def _holder(self) -> int | None:
        try:
            pid = int(Path(self.path).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass  # it lives, under another user
        return pid

    def _write(self) -> None:
        # Renamed into place: a reader never sees an empty file.
        part = f"{self.path}.{self._pid}"
        Path(part).write_text(f"{self._pid}\n", encoding="ascii")
        Path(part).replace(self.path)

    def remove(self) -> None:
        """Remove it if it is still ours, and only in the process that wrote it (not in a forked child)."""
        if os.getpid() != self._pid:
            return
        with contextlib.suppress(OSError, ValueError):
            if int(Path(self.path).read_text(encoding="ascii")) == self._pid:
                Path(self.path).unlink()
