"""Loads tests/corpus: streams of octets and what they mean. The format is told in tests/corpus/README.md."""

from __future__ import annotations

import codecs
import dataclasses
import pathlib
import re
import tomllib
from typing import Any

CORPUS = pathlib.Path(__file__).parent.parent / "corpus"

_CHUNKED_POST = r"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_REPEAT = re.compile(r"\\\{((?:[^{}]|\{[^{}]*\})*?)\*([0-9]+)\}")


@dataclasses.dataclass(frozen=True)
class Case:
    """One stream and its meaning; the fields are those of the files."""

    topic: str
    name: str
    rfc: str
    octets: bytes
    requests: tuple[str, ...] = ()
    status: int | None = None
    incomplete: bool = False
    environ: dict[str, str] = dataclasses.field(default_factory=dict)
    absent: tuple[str, ...] = ()
    body: bytes | None = None
    close: bool = False
    expect: bool | None = None
    note: str = ""

    def __str__(self) -> str:
        """The id of the case in test output."""
        return f"{self.topic}:{self.name}"

    @property
    def ending(self) -> int | str:
        """How the stream ends after its requests: a status, `incomplete` or `end`."""
        return self.status or ("incomplete" if self.incomplete else "end")


def _repeat(text: str) -> str:
    """Write out `\\{ab*3}`, which may hold another."""
    while (found := _REPEAT.search(text)) is not None:
        inner = found[1]
        text = text[: found.start()] + _repeat(inner) * int(found[2]) + text[found.end() :]
    return text


def octets(text: str) -> bytes:
    """Make octets of the escapes that the files use."""
    marked = _repeat(text)
    marked = marked.replace(r"\P", _CHUNKED_POST)
    raw: bytes = codecs.decode(marked, "unicode_escape").encode("latin-1")
    return raw


def _case(topic: str, entry: dict[str, Any]) -> Case:
    values = dict(entry)
    values["octets"] = octets(entry["octets"])
    values["requests"] = tuple(map(_repeat, entry.get("requests", ())))
    values["absent"] = tuple(entry.get("absent", ()))
    if "body" in entry:
        values["body"] = entry["body"].encode("latin-1")
    return Case(topic=topic, **values)


def load() -> list[Case]:
    """Read all files; a case that contradicts itself is an error."""
    cases = [
        _case(path.stem, entry)
        for path in sorted(CORPUS.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["case"]
    ]
    names = {str(case) for case in cases}
    assert len(names) == len(cases), "two cases of one name"
    for case in cases:
        assert not (case.status and case.incomplete), case
        assert not (case.close and (case.status or case.incomplete)), case
        assert case.requests or not (case.environ or case.absent or case.body), case
    return cases
