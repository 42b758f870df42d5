"""How a record of the log looks, as text and as JSON. Where it goes is apid.log's.

Control characters are escaped: what a client sends can neither begin a line nor colour a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import time
from typing import Any

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: "\t",
    10: "\\n",
    13: "\\r",
    # Line and paragraph separators, and what turns the direction of writing
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


def escape(text: str) -> str:
    """Return the text with control characters as escapes, so that it is one line."""
    return text.translate(_CONTROL)


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What the formats have in common."""

    identity: str
    request_id: str
    message: str
    block: str

    @classmethod
    def of(cls, record: logging.LogRecord) -> Parts:
        """Take a record apart.

        Raises:
            Exception: whatever the application's objects in it raise when they are made text.
        """
        blocks = [str(getattr(record, "block", "") or "")]
        if record.exc_info:
            blocks.append(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            blocks.append(record.stack_info)
        block = "\n".join(text.strip("\n") for text in blocks if text)
        # An application may set all of these: to anything, and to text with lone surrogates, which no JSON parser need accept
        texts = (getattr(record, "identity", ""), getattr(record, "request_id", None) or "", record.getMessage(), block)
        return cls(*(str(text).encode("utf-8", "backslashreplace").decode() for text in texts))

    @property
    def fields(self) -> dict[str, int | str]:
        """The identity `worker=2 gen=7` as a dict with ints."""
        pairs = re.findall(r"(\w+)=(\S+)", self.identity)
        return {key: int(value) if value.isdigit() else value for key, value in pairs}


class LineFormatter(logging.Formatter):
    """A line, and indented what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without its last newline."""
        parts = Parts.of(record)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        words = [f"{moment}.{int(record.msecs):03d}", record.levelname, record.name, parts.identity]
        if parts.request_id:
            words.append(f"[{parts.request_id}]")
        line = escape(" ".join(word for word in [*words, parts.message] if word))
        return "\n".join([line, *(f"  {escape(text)}" for text in parts.block.splitlines())])


class JsonFormatter(logging.Formatter):
    """An object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        parts = Parts.of(record)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
        }
        entry |= parts.fields
        if parts.request_id:
            entry["request_id"] = parts.request_id
        entry["message"] = parts.message
        if parts.block:
            entry["block"] = parts.block
        return json.dumps(entry, ensure_ascii=True)
