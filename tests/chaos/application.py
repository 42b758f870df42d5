"""The application of a session: it records each call before it answers, and its answers can be checked to the last octet.

A call is recorded with one write(2) to a file with O_APPEND: `call ID VERSION TIME PID`, then `read ID LENGTH` once the content
has been read. The time is the monotonic clock of the machine. The file is opened while the application loads, so that a worker
without descriptors can record. Query: `size` octets of pattern follow the first
line, `length` says whether the answer has a Content-Length, `pause` seconds pass before the answer.
"""

from __future__ import annotations

import os
import time
import urllib.parse
import zlib

PATTERN = bytes(range(256)) * 256
PIECE = len(PATTERN)


class Application:
    """Serves one version of the content.

    Args:
        version: what answers say; it grows with each change of the content.
        records: the file of calls.
    """

    def __init__(self, version: int, records: str) -> None:
        self.version = version
        self._fd = os.open(records, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _record(self, line: str) -> None:
        os.write(self._fd, f"{line}\n".encode())

    def __call__(self, environ, start_response):
        """Record, read, answer."""
        ident = environ["PATH_INFO"].rpartition("/")[2]
        self._record(f"call {ident} {self.version} {time.monotonic():.6f} {os.getpid()}")
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        checksum = length = 0
        if environ["REQUEST_METHOD"] in {"POST", "PUT"}:
            while data := environ["wsgi.input"].read(65536):
                checksum, length = zlib.crc32(data, checksum), length + len(data)
            self._record(f"read {ident} {length}")
        if "pause" in query:
            time.sleep(float(query["pause"]))
        first = f"id={ident} version={self.version} pid={os.getpid()} length={length} crc={checksum}\n".encode()
        size = int(query.get("size", "0"))
        headers = [("Content-Type", "text/plain"), ("X-Id", ident)]
        headers += [("X-Version", str(self.version)), ("X-Pid", str(os.getpid()))]
        if query.get("length", "yes") == "yes":
            headers.append(("Content-Length", str(len(first) + size)))
        start_response("200 OK", headers)
        return [first] if not size else self._pieces(first, size)

    def _pieces(self, first, size):
        yield first
        for begin in range(0, size, PIECE):
            yield PATTERN[: min(PIECE, size - begin)]
