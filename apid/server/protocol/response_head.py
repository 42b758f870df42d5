"""The head of a response, made of what an application gave to start_response; and the pieces of a chunked body.

An application can say anything here; what PEP 3333 forbids is refused (promise S3): names and values that are no str, control
characters, names that are no token, a length that is none. Framing itself is the server's: hop-by-hop fields are not the
application's to send (PEP 3333, "Other HTTP Features"), but for `Connection: close`, which is a wish that is heard, and the
`Upgrade` of a 426, which has to have one (RFC 9110 §15.5.22).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable

from apid.server.protocol import grammar

_PLAIN, _LENGTH, _DATE, _CONNECTION, _UPGRADE, _HOP = range(6)
_KINDS = {
    "content-length": _LENGTH,
    "date": _DATE,
    "connection": _CONNECTION,
    "transfer-encoding": _HOP,
    "keep-alive": _HOP,
    "te": _HOP,
    "trailer": _HOP,
    "upgrade": _UPGRADE,
    "proxy-connection": _HOP,
}
_CACHE = 1000
"""Names and status lines that are kept ready; applications invent few."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UPGRADE_NAME = "\r\nUpgrade: "
_STATUS = re.compile(r"([2-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_MAX_DIGITS = 18

_names: dict[str, tuple[int, str]] = {}  # how each name is to be taken, and its spelling on the wire, after a CRLF
_statuses: dict[str, tuple[int, str]] = {}


class ResponseError(ValueError):
    """An application's status or fields that must not go on the wire."""


_SLOTS = 64
_heads: list[tuple[str, ResponseHead] | None] = [None] * _SLOTS


def read(status: str, fields: list[tuple[str, str]]) -> ResponseHead:
    """Return the head of an answer; one that repeats is not made again.

    Most answers of an application have a head that it has given before. What is compared is all its octets, joined: `join` reads
    what a str holds, whatever methods a subclass has, and a head that holds the separator is refused, so never kept.

    Raises:
        ResponseError: with the reason.
    """
    if type(fields) is not list:
        return ResponseHead(status, fields)
    try:
        key = "\0".join((status, *itertools.chain.from_iterable(fields)))
    except TypeError:
        return ResponseHead(status, fields)
    slot = hash(key) % _SLOTS
    found = _heads[slot]
    if found is not None and found[0] == key:
        return found[1]
    made = ResponseHead(status, fields)
    _heads[slot] = key, made
    return made


class ResponseHead:
    """What start_response was told; not changed afterwards, because answers share it.

    Attributes:
        code: the status.
        data: status line and fields, each with its CRLF; without what the server adds.
        length: of a Content-Length among the fields, else None.
        dated: whether there is a Date among them.
        close: whether the application asked for the end of the connection.
    """

    __slots__ = ("close", "code", "data", "dated", "length")

    def __init__(self, status: str, fields: Iterable[tuple[str, str]]) -> None:
        """Check and write down.

        Raises:
            ResponseError: with the reason; nothing of the value is in it that could break a log line.
        """
        known = _statuses.get(status)
        self.code, line = known if known is not None else _status(status)
        self.length: int | None = None
        self.dated = False
        self.close = False
        parts = [line]  # and then, by turns, a name and a value: each name brings the CRLF of the line before
        try:
            for name, value in fields:
                taken = _names.get(name)
                kind, spelled = taken if taken is not None else _name(name)
                if kind and not self._is_sent(kind, value):
                    continue
                parts.append(spelled)
                parts.append(value)
            values = "".join(parts[2::2])
        except ResponseError:
            raise
        except (TypeError, ValueError) as error:
            raise ResponseError(
                "headers that are no list of pairs of name and value, or a value that is no str"
            ) from error
        # isprintable is quicker than a pattern, and too strict: HTAB, and some letters of latin-1, are allowed.
        if not values.isprintable() and _CONTROL.search(values):
            raise ResponseError("a header value with a line break or another control character")
        if self.code == 426 and _UPGRADE_NAME in parts:
            parts += "\r\nConnection: ", "upgrade"  # RFC 9110 §7.8
        parts.append("\r\n")
        try:
            self.data = "".join(parts).encode("latin-1")
        except UnicodeEncodeError:
            raise ResponseError(
                "a status or header value beyond latin-1; RFC 8187 has an encoding for values"
            ) from None

    def _is_sent(self, kind: int, value: str) -> bool:
        """Heed a field that means something to the server; returns whether it goes out as the application gave it."""
        if not isinstance(value, str):
            raise ResponseError("a header value that is no str")
        value = str.__str__(value)  # of a subclass what it holds, whatever its methods say
        if kind == _LENGTH:
            length = int(value) if value.isdecimal() and value.isascii() and len(value) <= _MAX_DIGITS else -1
            if length < 0 or self.length not in (None, length):
                raise ResponseError("a Content-Length that is no number, or two that differ")
            self.length = length
        elif kind == _DATE:
            self.dated = True
        elif kind == _CONNECTION:
            self.close = self.close or "close" in [option.strip().lower() for option in value.split(",")]
        return kind == _DATE or (kind == _UPGRADE and self.code == 426)


def _status(status: str) -> tuple[int, str]:
    found = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if found is None:
        raise ResponseError("a status that is not `NNN reason`, of a final response")
    status = found[0]  # a str, where a subclass was given
    known = int(found[1]), f"HTTP/1.1 {status if len(status) > 3 else status + ' '}"
    if len(_statuses) < _CACHE:
        _statuses[status] = known
    return known


def _name(name: str) -> tuple[int, str]:
    found = grammar.is_token(name) if isinstance(name, str) else None
    if found is None:
        raise ResponseError("a header name that is no token")
    name = found[0]
    spelled = "\r\n" + "-".join(part.capitalize() for part in name.split("-")) + ": "  # as eventlet does
    known = _KINDS.get(name.lower(), _PLAIN), spelled
    if len(_names) < _CACHE:
        _names[name] = known
    return known


def check_field(name: str, value: str) -> None:
    """Check one field that an application gives.

    Raises:
        ResponseError: it must not go on the wire.
    """
    ResponseHead("200 OK", [(name, value)])


MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


class Date:
    """The Date field, refreshed by the engine's clock: reading a clock a request costs more than the rest of the field.

    Attributes:
        field: `Date: …` with its CRLF.
    """

    __slots__ = ("field",)

    def __init__(self) -> None:
        self.field = b""
        self.refresh()

    def refresh(self) -> None:
        """Write the field of this second (IMF-fixdate, RFC 9110 §5.6.7)."""
        moment = time.gmtime()
        day = "MonTueWedThuFriSatSun"[moment.tm_wday * 3 :][:3]
        month = MONTHS[moment.tm_mon * 3 - 3 :][:3]
        self.field = time.strftime(f"Date: {day}, %d {month} %Y %H:%M:%S GMT\r\n", moment).encode("ascii")


def chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
