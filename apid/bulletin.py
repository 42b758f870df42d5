"""What the parent tells everybody in shared memory: a JSON document, replaced as a whole. One writer, no locks.

The region (`Scoreboard.bulletin`) is one cell and two halves. The cell holds the edition's number and its length; edition n lies
in half n % 2. The parent writes the half that is not current and then turns the cell, so a reader who finds the cell unchanged
after its copy has copied one whole edition, and a parent that dies while it writes leaves the last edition readable.
"""

from __future__ import annotations

import json
from typing import Any

_LENGTH_BITS = 32


class Bulletin:
    """Reads and writes the region; the document's meaning is in apid.status."""

    def __init__(self, memory: memoryview) -> None:
        self._cell = memory[:8].cast("Q")
        self._half = (len(memory) - 8) // 2
        self._halves = memory[8 : 8 + self._half], memory[8 + self._half : 8 + 2 * self._half]
        self._last = b""

    def publish(self, document: dict[str, Any]) -> None:
        """Replace the document, if it is another one.

        Raises:
            ValueError: it does not fit; the last edition stays.
        """
        data = json.dumps(document, separators=(",", ":")).encode()
        if data == self._last:
            return
        if len(data) > self._half:
            raise ValueError(f"a document of {len(data)} bytes does not fit into {self._half}")
        edition = (self._cell[0] >> _LENGTH_BITS) + 1
        self._halves[edition % 2][: len(data)] = data
        self._cell[0] = (edition & 0xFFFFFFFF) << _LENGTH_BITS | len(data)
        self._last = data

    def read(self) -> dict[str, Any]:
        """Return the current document; empty when nothing was ever published."""
        while True:
            before = self._cell[0]
            length = before & (1 << _LENGTH_BITS) - 1
            data = bytes(self._halves[(before >> _LENGTH_BITS) % 2][:length])
            if self._cell[0] == before:
                found: dict[str, Any] = json.loads(data) if data else {}
                return found
