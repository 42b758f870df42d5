"""systemd-journald's native protocol: a datagram of fields to an AF_UNIX socket. What the fields say is the caller's.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"


class Journal:
    """A way to the journal.

    Args:
        path: of the journal's socket.

    Raises:
        OSError: there is no journal; `filename` is the path.
    """

    def __init__(self, path: str = SOCKET) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(path)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
        # Not connected itself: a journald that was restarted has a new socket under the old path.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = path

    def send(self, fields: Mapping[str, str]) -> None:
        """Send one entry.

        Raises:
            OSError: the journal does not take it.
        """
        data = encode(fields)
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(data)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send_as_file(self, data: bytes) -> None:
        """Send an entry too large for a datagram as a sealed memfd, as the protocol wants it."""
        fd = os.memfd_create("apid-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with contextlib.closing(os.fdopen(fd, "wb")) as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(
                fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            )
            self._socket.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))], 0, self._path)


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
