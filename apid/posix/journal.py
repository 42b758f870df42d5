"""systemd-journald's native protocol: a datagram of fields to an AF_UNIX socket. What the fields say is the caller's.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Mapping

from apid.posix.appender import Patience

SOCKET = "/run/systemd/journal/socket"


class Journal:
    """A way to the journal, which waits no longer for it than `Patience` allows. Any native thread may use it.

    Args:
        path: of the journal's socket.
        probe: see whether there is one.

    Raises:
        OSError: there is no journal; `filename` is the path.
    """

    def __init__(self, path: str = SOCKET, *, probe: bool = True) -> None:
        self._path = path
        self._patience = Patience()
        self._socket: _socket.socket | None = None
        if probe:
            with contextlib.closing(_datagrams()) as sock:
                try:
                    sock.connect(path)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, path) from None

    def send(self, fields: Mapping[str, str]) -> None:
        """Send one entry.

        Raises:
            OSError: the journal does not take it, or not soon enough.
        """
        data = encode(fields)
        if self._socket is None:
            # Not connected: a journald that was restarted has a new socket under the old path.
            self._socket = _datagrams()
        try:
            self._send([data], [])
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(data)

    def close(self) -> None:
        """Close the socket; the next entry opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: list[bytes], ancillary: list[tuple[int, int, array.array[int]]]) -> None:
        sock = self._socket
        assert sock is not None  # noqa: S101 - `send` has opened it

        def wait(seconds: float) -> bool:
            # What is full is the queue of journald's socket, for which no poll tells when this one is not connected.
            whole, part = divmod(int(seconds * 1e6), 1_000_000)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("@ll", whole, part))
            with contextlib.suppress(BlockingIOError):
                sock.sendmsg(data, ancillary, 0, self._path)
                return True
            return False

        try:
            sock.sendmsg(data, ancillary, _socket.MSG_DONTWAIT, self._path)
        except BlockingIOError:
            if not self._patience.wait(wait):
                raise

    def _send_as_file(self, data: bytes) -> None:
        """Send an entry too large for a datagram as a sealed memfd, as the protocol wants it."""
        fd = os.memfd_create("apid-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with contextlib.closing(os.fdopen(fd, "wb")) as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(
                fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            )
            self._send([b""], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))])


def _datagrams() -> _socket.socket:
    """Make a native socket: eventlet's switches green threads, which neither the hub nor another native thread can."""
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    made.settimeout(None)  # whatever socket.setdefaulttimeout says
    return made


def encode(fields: Mapping[str, str]) -> bytes:
    """Return the datagram: `NAME=value`, or for values of several lines the name, a 64-bit length and the bytes."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
