"""`wsgi.file_wrapper`: a file as a response; of an ordinary file the kernel sends the pages itself (PEP 3333, sendfile(2))."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any


class FileWrapper:
    """An iterable over a file-like object.

    Attributes:
        filelike: what it reads from.
        block_size: octets read at once where it has to be read.
    """

    def __init__(self, filelike: Any, block_size: int = 65536) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        """Block by block."""
        return iter(lambda: self.filelike.read(self.block_size), b"")

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def span(self) -> tuple[int, int, int] | None:
        """Return descriptor, offset and how much there is from there, or None if it is no ordinary file open for reading."""
        try:
            fd = self.filelike.fileno()
            offset = self.filelike.tell()
            found = os.fstat(fd)
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode) or "b" not in getattr(self.filelike, "mode", "b"):
            return None
        return fd, offset, max(0, found.st_size - offset)
