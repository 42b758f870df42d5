"""What stands for the code that a process has loaded: two molds of one generation must have loaded the same.

It is made of the names and contents of the files of all modules, and of the pipelines' files. Data that an application reads
besides (templates, policies) is not part of it. A file that was written after the process began may have been read before or
after that: what has been loaded then equals nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable

LARGE = 1 << 20
"""Bytes; of larger files, which are compiled libraries, size, time and inode stand for the content."""


def of(files: Iterable[str], began: float) -> str:
    """Return the fingerprint, of hexadecimal digits.

    Args:
        files: those that were read and are no modules.
        began: when the process began, in seconds of the wall clock.
    """
    digest = hashlib.blake2b(digest_size=32)
    for path in sorted({*files, *_modules()}):
        digest.update(os.fsencode(path) + b"\0")
        with contextlib.suppress(OSError), open(path, "rb") as file:  # removed: then the next one finds it missing, too
            status = os.fstat(file.fileno())
            if began < status.st_mtime <= time.time():  # later: a clock was wrong, and nothing follows
                digest.update(os.urandom(32))
            large = status.st_size > LARGE
            digest.update(str((status.st_size, status.st_mtime_ns, status.st_ino)).encode() if large else file.read())
        digest.update(b"\0")
    return digest.hexdigest()


def _modules() -> Iterable[str]:
    for module in list(sys.modules.values()):
        try:
            path = getattr(module, "__file__", None)
        except Exception:  # noqa: BLE001, S112 - somebody else's object
            continue
        if type(path) is str:
            yield path
