"""The pid file: the lock file that operators read."""

from __future__ import annotations

import os

from apid.errors import ConfigError
from apid.posix.lockfile import HeldError, LockFile


class PidFile(LockFile):
    """The file of the option pid_file: anybody may read it.

    Args:
        path, fd: as of `LockFile`.

    Raises:
        ConfigError: a running process holds it, or it cannot be written.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        try:
            super().__init__(path, fd, mode=0o644)
        except HeldError as error:
            raise ConfigError(f"option pid_file: {path} {error.strerror}") from error
        except OSError as error:
            raise ConfigError(f"option pid_file: cannot write {path}: {error.strerror}") from error

    def write(self) -> None:
        """Write the number again if somebody has written something else into the file.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            if self.fd >= 0 and os.pread(self.fd, len(self._text) + 1, 0) != self._text:
                os.pwrite(self.fd, self._text, 0)
                os.ftruncate(self.fd, len(self._text))
        except OSError as error:
            raise ConfigError(f"option pid_file: cannot write {self.path}: {error.strerror}") from error
