"""From a request's body to a document and back, by media type. JSON is here; an API adds others to its Resource.

JSON is read strictly: what json would silently repair (duplicate keys, NaN) or pass on as a time bomb (lone surrogates, integers
that no database holds, documents deep enough to exhaust the stack) is a 400 that says so.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from apid.wsgi import faults

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

MAX_BODY = 1 << 20
"""Bytes of a body that are read where no sizelimit filter allows fewer."""
MAX_DEPTH = 64
"""Levels of nesting; what people send has fewer than ten."""
MAX_INTEGER = 2**63
"""Integers are those of every database: 64 bits with a sign."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _RefusedError(ValueError):
    """A text that json would have let through."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() is None
        raise _RefusedError(f"the key {twice[:64]!r} stands twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > 20 or not -MAX_INTEGER <= int(text) < MAX_INTEGER:
        raise _RefusedError(f"the integer {text[:24]} does not fit in 64 bits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"the number {text[:24]} is too large")
    return value


def _constant(text: str) -> object:
    raise _RefusedError(f"{text} is not JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_number, parse_constant=_constant
).decode


def _depth(document: object) -> int:
    """Levels of nesting, measured without recursion."""
    level, deep = [document], 0
    while level:
        deep += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(value for value in item.values() if isinstance(value, (dict, list)))
            elif isinstance(item, list):
                below.extend(value for value in item if isinstance(value, (dict, list)))
        level = below
    return deep


def read_json(body: bytes) -> Any:
    """Read a JSON document.

    Raises:
        BadRequest: it is not JSON (RFC 8259), or holds what this module refuses; the message says what and where.
    """
    try:
        document = _decode(body.decode("utf-8"))
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(document) > MAX_DEPTH:
            raise RecursionError  # noqa: TRY301  (the same to the client as a depth that stopped the decoder)
        if b"\\u" in body and _SURROGATE.search(body):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        reason = f"more than {MAX_DEPTH} levels of nesting"
    except json.JSONDecodeError as exc:
        reason = f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
    except UnicodeEncodeError:
        reason = "half of a surrogate pair"
    except UnicodeDecodeError as exc:
        reason = f"byte {exc.start} is not UTF-8"
    except _RefusedError as exc:
        reason = str(exc)
    else:
        return document
    raise faults.BadRequest(f"Malformed request body: {reason}.", error="body.malformed")


def read_body(environ: WSGIEnvironment, limit: int = MAX_BODY) -> bytes:
    """The whole body of a request; empty when there is none.

    Raises:
        BadRequest: Content-Length is malformed, or the body ends before it.
        TooLarge: it is longer than `limit` bytes.
    """
    length = environ.get("CONTENT_LENGTH")
    if length:
        if not length.isascii() or not length.isdigit():
            raise faults.BadRequest("Content-Length is not a number.")
        size = int(length) if len(length) < 19 else limit + 1
        if size > limit:
            raise faults.TooLarge(f"The request body is larger than {limit} bytes.")
        return _exactly(environ, size)
    if not environ.get("wsgi.input_terminated"):
        return b""  # without a length nothing says where the body ends, and reading would wait for the client
    stream = environ["wsgi.input"]
    chunks: list[bytes] = []
    room = limit + 1
    while room > 0 and (chunk := stream.read(min(room, 65536))):
        chunks.append(chunk)
        room -= len(chunk)
    if room <= 0:
        raise faults.TooLarge(f"The request body is larger than {limit} bytes.")
    return b"".join(chunks)


def _exactly(environ: WSGIEnvironment, size: int) -> bytes:
    if size == 0:
        return b""
    stream = environ["wsgi.input"]
    parts: list[bytes] = []
    while size > 0:  # a server may give fewer bytes than asked for
        part = stream.read(size)
        if not part:
            raise faults.BadRequest("The request body ends before its Content-Length.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
