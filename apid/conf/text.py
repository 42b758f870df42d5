"""Configuration files as text: UTF-8, and nothing in them that an editor does not show where it would change what is read."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
import unicodedata

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # that of UTF-32 begins as that of UTF-16
_KEY = re.compile(r"\[.*|[^=:]*")


class TextError(ValueError):
    """Something in a file that cannot be read. `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def content(path: str) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: it cannot be read, or is neither a regular file nor /dev/null: a FIFO keeps its opener waiting for a writer
            and is empty at a reload, a device may never end.
    """
    flags = os.O_NONBLOCK | os.O_NOCTTY
    with open(path, "rb", opener=lambda name, more: os.open(name, flags | more)) as file:
        found = os.fstat(file.fileno())
        if stat.S_ISFIFO(found.st_mode):
            raise OSError(errno.ESPIPE, "it is a FIFO, which cannot be read again at a reload", path)
        if not stat.S_ISREG(found.st_mode) and found.st_rdev != os.makedev(1, 3):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return file.read()


def unreadable(path: str, error: OSError) -> str:
    """Return `PATH cannot be read: REASON`; it names the user who lacks permission, perhaps a worker's."""
    who = f" by user {os.geteuid()}" if isinstance(error, PermissionError) else ""
    return f"{path} cannot be read{who}: {error.strerror}"


def read(path: str) -> str:
    """Return what a file in ini format holds, with line ends as in Python's text files.

    Raises:
        OSError: it cannot be read.
        TextError: it is not UTF-8, or an invisible character stands in it before a value.
    """
    data = content(path)
    if data.startswith(_OTHER_MARKS):
        raise TextError(1, "the file is UTF-16 or UTF-32: save it as UTF-8")
    if data.startswith(codecs.BOM_UTF8):
        raise TextError(
            1, "the file begins with a byte order mark (U+FEFF), which no editor shows: save it without BOM"
        )
    if (at := data.find(b"\0")) >= 0:
        raise TextError(_line(data, at), "a NUL byte; the file must be UTF-8 text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise TextError(_line(data, at), f"the byte 0x{data[at]:02x} is not UTF-8; is the file Latin-1?") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        _check(number, line)
    return text


def show(text: str) -> str:
    """Return the text with each invisible character as `<U+00A0>`, for a message."""
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


def _check(number: int, line: str) -> None:
    """Refuse an invisible character in a section or in the name of an option; one in a value is the value's."""
    if line.startswith(("#", ";", " ", "\t")):
        return
    match = _KEY.match(line)
    hidden = [char for char in (match[0] if match else "") if not char.isprintable() and char != "\t"]
    if hidden:
        name = unicodedata.name(hidden[0], "a control character")
        raise TextError(number, f"an invisible character, {name} (U+{ord(hidden[0]):04X}): {show(line.strip())}")


def _line(data: bytes, at: int) -> int:
    before = data[:at].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return before.count(b"\n") + 1
