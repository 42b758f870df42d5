"""`wsgi.file_wrapper`: a file as a response; of an ordinary file the kernel sends the pages itself (PEP 3333, sendfile(2))."""

from __future__ import annotations

import io
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
        """Block by block; of whatever type `read` gives, so that a file opened for text ends, too."""
        while block := self.filelike.read(self.block_size):
            yield block

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def span(self) -> tuple[int, int, int] | None:
        """Return descriptor, offset and how much there is from there; None if it has to be read to know.

        That is what is no ordinary file open for octets, or says that it is empty, as all of /proc and /sys does. The types are
        looked at, for a GzipFile has a descriptor and a position, too, but not of the same thing.
        """
        opened = getattr(self.filelike, "file", self.filelike)  # NamedTemporaryFile wraps one
        if not isinstance(getattr(opened, "raw", opened), io.FileIO):
            return None
        try:
            fd = opened.fileno()
            offset = opened.tell()
            found = os.fstat(fd)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        size = found.st_size - offset
        return (fd, offset, size) if size > 0 else None
