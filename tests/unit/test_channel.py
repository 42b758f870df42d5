"""Messages between parent and worker survive the wire, and nothing else passes for one."""

import dataclasses

import pytest

from apid import channel
from apid.channel import BootFailed, ChannelError, Drain, DrainDone, Ready, RecycleAsked


@pytest.mark.parametrize(
    "message",
    [
        Ready({"main": ["faultwrap", "v1"]}),
        BootFailed("config", "no section", "Traceback ..."),
        RecycleAsked("rss"),
        Drain(60.0, True, ["admin"]),
        DrainDone(["GET /slow 61.2 s req-1"]),
        channel.Reopen(),
        channel.Reopened("disk full"),
        channel.Dump(),
        channel.Dumped(),
    ],
)
def test_round_trip(message):
    assert channel.decode(channel.encode(message)) == message


@pytest.mark.parametrize(
    "packet",
    [b"", b"\xff", b"[]", b"{}", b'{"type":"Nope"}', b'{"type":"Drain"}', b'{"type":"Ready","x":1}', b"7"],
)
def test_anything_else_is_an_error(packet):
    with pytest.raises(ChannelError, match="not a message"):
        channel.decode(packet)


@pytest.mark.parametrize(
    "message",
    [
        BootFailed("crash", "r" * 99999, "d" * 999999),
        DrainDone(["x" * 9999] * 9999),
        Ready({"r": "x" * 99999}),
    ],
)
def test_long_texts_are_cut_to_a_packet(message):
    packet = channel.encode(message)
    assert len(packet) <= channel.MAX_MESSAGE
    assert type(channel.decode(packet)) is type(message)


def test_messages_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ready().report = {}
