"""Where two other parsers read a stream differently, docs/HTTP_PARSING.md has a line that says who is right by the RFC.

Compared is what would be served: the requests with their content. The corpus is compared, and streams made from it; a
difference that the two tables of the document do not list fails.
"""

import pathlib
import random
import re

import pytest

from tests.support import corpus, peers, reading, streams

DOCUMENT = pathlib.Path(__file__).parents[3] / "docs" / "HTTP_PARSING.md"
CASES = corpus.load()
SEEDS = [case.octets for case in CASES if len(case.octets) < 2000]
READERS = {"h11": peers.read_h11, "httptools": peers.read_httptools}

# Streams that apid serves and a peer does not, by the name of their line in the document; `@` is put before the line of the
# first request that only apid serves, two NUL before that if an empty line was ignored there.
SERVED_HERE = {
    "an empty line before a request": re.compile(rb"\x00\x00@"),
    "close beside keep-alive in HTTP/1.0": re.compile(rb"HTTP/1\.0\r\n(?:.*\r\n)*?connection:.*close.*keep-alive", re.IGNORECASE),
    "keep-alive in HTTP/1.0": re.compile(rb"HTTP/1\.0\r\n(?:.*\r\n)*?connection:.*keep-alive", re.IGNORECASE),
    "whitespace around a chunk extension": re.compile(rb"[0-9a-f]+[ \t]*;[^\r]*[ \t=]|[0-9a-f][ \t]+;", re.IGNORECASE),
    "a Content-Length of many zeros": re.compile(rb"content-length:[ \t]*0{19}", re.IGNORECASE),
    "a method of no registry": re.compile(rb"@(?!(?:GET|POST|PUT|HEAD|DELETE|OPTIONS) )[^ \r\n]+ [^ \r\n]+ HTTP/1"),
    "a minor version above 1": re.compile(rb"@[^\r]* HTTP/1\.[2-9]\r"),
    "Proxy-Connection": re.compile(rb"proxy-connection", re.IGNORECASE),
    "a trailer field named as one of framing": re.compile(
        rb"\n0+[^\n]*\n(?:.*\r\n)*?(?:content-length|transfer-encoding|connection)[^\n]*:", re.IGNORECASE
    ),
}  # fmt: skip


def table(heading):
    """The rows of the table under a heading: the first cell without its backquotes, then the others."""
    section = DOCUMENT.read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")
    ]
    return {row[0].strip("`"): row[1:] for row in rows[1:]}


STRICTER = table("Refused here, served by another")
LOOSER = table("Served here, refused by another")


def difference(octets, peer):
    """Give the line of the document that a difference belongs to, None where there is no difference."""
    ours = reading.read([octets])
    requests = peers.Reduced.of(ours).requests
    theirs = READERS[peer](octets).requests
    same = 0
    while same < min(len(requests), len(theirs)) and requests[same] == theirs[same]:
        same += 1
    if same == len(requests) == len(theirs):
        return None
    if same == len(requests) and not isinstance(ours.ending, str):
        return (
            ours.reason
            if STRICTER.get(ours.reason, {}) and _says(STRICTER[ours.reason], peer)
            else f"unlisted: {ours.reason}"
        )
    marked = octets
    if same < len(requests):
        found = ours.requests[same]
        marked = octets.replace(found.line, (b"\0\0@" if found.after_empty_line else b"@") + found.line)
    for name, pattern in SERVED_HERE.items():
        if pattern.search(marked) and _says(LOOSER[name], peer):
            return name
    return f"unlisted: {requests} against {theirs}"


def _says(row, peer):
    return bool(row[list(READERS).index(peer)])


@pytest.mark.parametrize("peer", READERS)
def test_the_corpus(peer):
    found = {str(case): difference(case.octets, peer) for case in CASES}
    assert not {case: line for case, line in found.items() if line and line.startswith("unlisted")}


@pytest.mark.parametrize(("count", "dice"), [(4000, 1), pytest.param(200_000, 2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("peer", READERS)
def test_made_streams(peer, count, dice):
    dice = random.Random(dice)
    unlisted = {}
    for _ in range(count):
        octets = streams.make(dice, SEEDS)
        line = difference(octets, peer)
        if line and line.startswith("unlisted"):
            unlisted.setdefault(line[:60], octets)
    assert not unlisted


def test_every_line_of_the_document_is_seen():
    """A line without a stream that shows it is a claim without evidence."""
    seen = {difference(case.octets, peer) for case in CASES for peer in READERS}
    assert set(STRICTER) | set(LOOSER) == {line for line in seen if line}
