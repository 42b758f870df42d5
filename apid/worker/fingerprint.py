"""What stands for the code that a process has loaded: two molds of one generation must have loaded the same.

It is made of the names and contents of the files of all modules, and of the pipelines' files. Which modules are loaded may depend
on the moment (the first start makes a database, and needs more for that), so the parent compares what two fingerprints have in
common. Data that an application reads besides (templates, policies) is not part of it. A file that was written after the process
began may have been read before or after that: what has been loaded then equals nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable

LARGE = 1 << 20
"""Bytes; of larger files, which are compiled libraries, size, time and inode stand for the content."""


MOST = 5000
"""Files; of more, the first ones in the order of the fingerprint stand for all."""


def of(files: Iterable[str], began: float) -> str:
    """Return the fingerprint: eight characters of base64 for each file, in an order of their own.

    Args:
        files: those that were read and are no modules.
        began: when the process began, in seconds of the wall clock.
    """
    parts = sorted({_part(path, began) for path in {*files, *_modules()}})
    return base64.b64encode(b"".join(parts[:MOST])).decode("ascii")


def _part(path: str, began: float) -> bytes:
    """Return what stands for a file: three octets for its path, three for its content."""
    content = hashlib.blake2b(digest_size=3)
    with contextlib.suppress(OSError), open(path, "rb") as file:  # removed: then the next one finds it missing, too
        status = os.fstat(file.fileno())
        if began < status.st_mtime <= time.time():  # later: a clock was wrong, and nothing follows
            content.update(os.urandom(32))
        large = status.st_size > LARGE
        content.update(str((status.st_size, status.st_mtime_ns, status.st_ino)).encode() if large else file.read())
    return hashlib.blake2b(os.fsencode(path), digest_size=3).digest() + content.digest()


def _modules() -> Iterable[str]:
    for module in list(sys.modules.values()):
        try:
            path = getattr(module, "__file__", None)
        except Exception:  # noqa: BLE001, S112 - somebody else's object
            continue
        if type(path) is str:
            yield path
