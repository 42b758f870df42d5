"""Memory in a memfd whose size nobody can change (F_ADD_SEALS, fcntl(2)), and its mapping.

A process that shares a memfd may truncate it, so that another one gets SIGBUS at its next access, or may write without end and
fill the memory of the machine. Seals prevent both, before another process has the descriptor.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

EVERYTHING = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
"""Seals of a memfd that stays as it is."""

_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_READ, _WRITE = mmap.PROT_READ, mmap.PROT_WRITE
_MAP_FIXED = 0x10  # linux/mman.h
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long]


def create(name: str, size: int) -> int:
    """Return a new memfd of `size` bytes, close-on-exec; memory is used only for what is written.

    Only its owner can open it again through /proc, and nobody can change its size.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def of(data: bytes, name: str) -> int:
    """Return a new memfd, close-on-exec, with this content, which nobody can change (EVERYTHING)."""
    with os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(data)
        file.flush()
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, EVERYTHING)
        return os.dup(file.fileno())


def check(fd: int, size: int) -> None:
    """Raise ValueError unless it is a memfd of `create` with this size; OSError when it is no descriptor."""
    if os.fstat(fd).st_size != size or not is_sealed(fd, _SIZE):
        raise ValueError(f"descriptor {fd} is no sealed memory of {size} bytes")


def is_sealed(fd: int, seals: int) -> bool:
    """Whether it is a memfd with these seals (F_SEAL_*, fcntl(2)); OSError when it is no descriptor."""
    os.fstat(fd)
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & seals == seals
    except OSError:
        return False  # EINVAL: a descriptor of another kind


class Memory:
    """A memfd, mapped shared until the process ends.

    `mmap.mmap` keeps a duplicate of the descriptor, which a worker could not close.

    Attributes:
        fd: the memfd; -1 once it is closed here.
        view: the bytes. It stays valid whatever becomes of the mapping.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._size = size
        self._address = _map(None, size, _READ | _WRITE, mmap.MAP_SHARED, fd)
        self.view = memoryview((ctypes.c_ubyte * size).from_address(self._address)).cast("B")

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def only_read(self, *but: slice) -> None:
        """Close the descriptor, and let this process write nothing here any more `but` these pages.

        mprotect(2) grants no more than the descriptor did that was mapped, so the mapping is replaced with one of a descriptor
        that was opened for reading. Native code can reach further with mremap(2), from a page that may be written: what must be
        out of reach lies in a memory of which nothing may be written. Without /proc there is no such descriptor, and native code
        can permit itself to write.
        """
        try:
            reading = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            reading = os.dup(self.fd)
        try:
            self._remap(slice(0, self._size), _READ, mmap.MAP_SHARED, reading)
        finally:
            os.close(reading)
        for pages in but:
            self._remap(pages, _READ | _WRITE, mmap.MAP_SHARED, self.fd)
        self.close()

    def exchange(self, fd: int, old: slice, new: slice) -> None:
        """After `only_read`: let this process write the pages `new` instead of `old`, which read as zeros from now on.

        `fd` is a descriptor of this memory, and is closed. It need not be opened again, which only its owner can do.
        """
        try:
            self._remap(new, _READ | _WRITE, mmap.MAP_SHARED, fd)
        finally:
            os.close(fd)
        self._remap(old, _READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)

    def make_private(self, keep: slice) -> None:
        """Replace the shared memory with empty memory of this process alone; the bytes `keep` are copied."""
        kept = bytes(self.view[keep])
        self._remap(slice(0, self._size), _READ | _WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        self.view[keep] = kept
        self.close()

    def _remap(self, pages: slice, protection: int, flags: int, fd: int) -> None:
        at = self._address + pages.start
        _map(at, pages.stop - pages.start, protection, flags | _MAP_FIXED, fd, pages.start)


def _map(  # noqa: PLR0917 - as mmap(2) has them
    address: int | None, size: int, protection: int, flags: int, fd: int, offset: int = 0
) -> int:
    found = _libc.mmap(address, size, protection, flags, fd, offset)
    if found is None or found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "mmap")
    return int(found)
