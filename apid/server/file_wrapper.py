"""`wsgi.file_wrapper`: a file as a response; of an ordinary file the kernel sends the pages itself (PEP 3333, sendfile(2))."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

BLOCK = 65536

_OURS = ("name",)
"""What open() leaves among a file's own attributes. Any other may be a `read` that somebody put there."""


class FileWrapper:
    """An iterable over a file-like object.

    Attributes:
        filelike: what it reads from.
        block_size: octets read at once where it has to be read; a suggestion (PEP 3333), ignored where it is none.
    """

    def __init__(self, filelike: Any, block_size: int = BLOCK) -> None:
        self.filelike = filelike
        self.block_size = block_size if block_size > 0 else BLOCK

    def __iter__(self) -> Iterator[bytes]:
        """Iterate to the end of the file."""
        return self.pieces(sys.maxsize)

    def pieces(self, most: int) -> Iterator[bytes]:
        """Read block by block, `most` octets or to the end; of whatever type `read` gives, so that a text file ends, too."""
        while most > 0 and (block := self.filelike.read(min(self.block_size, most))):
            most -= len(block)
            yield block

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def span(self) -> tuple[int, int, int] | None:
        """Return descriptor, offset and how much there is from there; None if it has to be read to know.

        What is sent has to be what `read` gives (PEP 3333). Only the types that open() makes are known to read the octets of
        their descriptor: a subclass, and anything that wraps a file, may decrypt, decompress or count. A size is believed once
        the file has been seen to end there, which those of /proc and /sys do not.
        """
        opened = self.filelike
        if not _is_plain(opened):
            return None
        try:
            if not opened.readable():
                return None
            opened.flush()  # of a BufferedRandom
            fd = opened.fileno()
            offset = opened.tell()
            found = os.fstat(fd)
            size = found.st_size - offset
            if not stat.S_ISREG(found.st_mode) or size <= 0 or len(os.pread(fd, 2, found.st_size - 1)) != 1:
                return None
        except (OSError, ValueError):
            return None
        return fd, offset, size


def _is_plain(opened: Any) -> bool:
    """Whether this is a file that reads as it was opened: of an exact type, and with nothing put in place of its methods."""
    kind = type(opened)
    if kind is io.BufferedReader or kind is io.BufferedRandom:
        if vars(opened):
            return False
        opened = opened.raw
        kind = type(opened)
    return kind is io.FileIO and all(name in _OURS for name in vars(opened))
