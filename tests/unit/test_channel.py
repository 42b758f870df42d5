"""Messages between parent and worker survive the wire, and nothing else passes for one."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid import channel
from apid.bounds import clean
from apid.channel import MAX_MESSAGE, SENT_BY, BootFailed, ChannelError, Drain, DrainDone, Ready, RecycleAsked, Sender

REPORT = {
    "main": {
        "file": "api-paste.ini",
        "app_name": "main",
        "tree": {
            "section": "pipeline:main",
            "uses": "faultwrap v1",
            "parts": [{"section": "app:v1", "uses": "", "parts": [], "routes": [["GET", "/v1", "v1.index"]]}],
        },
    }
}
MESSAGES = [
    (Ready(), Sender.WORKER),
    (Ready(REPORT), Sender.TRIAL),
    (BootFailed("config", "no section", "Traceback ...\n\tin line 3"), Sender.WORKER),
    (RecycleAsked("rss"), Sender.WORKER),
    (channel.Draining(), Sender.WORKER),
    (DrainDone(["GET /slow 61.2 s req-1"], 3), Sender.WORKER),
    (channel.Reopened("disk full"), Sender.WORKER),
    (channel.Dumped(), Sender.WORKER),
    (Drain(60.0, True, ["unix:/run/\udcff"]), Sender.PARENT),
    (channel.Reopen(), Sender.PARENT),
    (channel.Dump(), Sender.PARENT),
    (channel.Fork(3, 7, {"main": 2, "unix:/run/\udcff": 1}), Sender.PARENT),
    (channel.Born(), Sender.NEWBORN),
    (channel.NotBorn("Cannot allocate memory"), Sender.NEWBORN),
    (Ready(stays=True, code="ab12", unsafe=["a native thread"]), Sender.TRIAL),
]


@pytest.mark.parametrize(("message", "sender"), MESSAGES)
def test_round_trip(message, sender):
    assert channel.decode(channel.encode(message), sender) == message


def test_every_message_has_its_senders():
    assert {message for messages in SENT_BY.values() for message in messages} == {type(one) for one, _ in MESSAGES}


DEEP = {"section": "a", "uses": "", "parts": []}
for _ in range(channel.DEEPEST):
    DEEP = {"section": "a", "uses": "", "parts": [DEEP]}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"7",
        b"null",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"type":"Nope"}',
        b'{"type":["Ready"]}',
        b'{"type":{}}',
        b'{"type":"Ready","x":1}',
        b'{"type":"Ready","report":null}',
        b'{"type":"Ready","report":{"main":{}}}',
        b'{"type":"Ready","type":"Ready"}',
        b'{"type":"Ready"} x',
        b'\xef\xbb\xbf{"type":"Ready"}',
        '{"type":"Ready"}'.encode("utf-16"),
        b'{"type":"Ready"}' + b" " * MAX_MESSAGE,
        json.dumps({"type": "Ready", "report": {"main": {**REPORT["main"], "tree": DEEP}}}).encode(),
        b'{"type":"BootFailed","kind":"config"}',
        b'{"type":"BootFailed","kind":"other","reason":""}',
        b'{"type":"BootFailed","kind":["config"],"reason":""}',
        b'{"type":"BootFailed","kind":"config","reason":{}}',
        b'{"type":"BootFailed","kind":"config","reason":"","detail":[]}',
        b'{"type":"BootFailed","kind":"config","reason":"%s"}' % (b"x" * 9999),
        b'{"type":"RecycleAsked","cause":{}}',
        b'{"type":"RecycleAsked","cause":"hung"}',
        b'{"type":"DrainDone","cut":5}',
        b'{"type":"DrainDone","cut":[5]}',
        b'{"type":"DrainDone","cut":"GET /"}',
        b'{"type":"DrainDone","cut":[],"more":true}',
        b'{"type":"DrainDone","cut":[],"more":1.0}',
        b'{"type":"DrainDone","cut":[],"more":-1}',
        b'{"type":"DrainDone","cut":[],"more":NaN}',
        b'{"type":"DrainDone","cut":[],"more":1e999}',
        b'{"type":"DrainDone","cut":[],"more":Infinity}',
        b'{"type":"DrainDone","cut":[],"more":1%s}' % (b"0" * 60),
        b'{"type":"DrainDone","cut":[],"more":1%s}' % (b"0" * 6000),
        b'{"type":"DrainDone","cut":[%s""]}' % (b'"",' * 5000),
        b'{"type":"Reopened","error":1}',
        b'{"type":"Dumped","error":null}',
        b'{"type":"Drain","deadline":1,"successor":true}',
        b'{"type":"Reopen"}',
        b'{"type":"Fork","slot":0,"row":0,"listeners":{}}',
        b'{"type":"Born"}',
        b'{"type":"Ready","stays":1}',
        b'{"type":"Ready","code":"%s"}' % (b"x" * 50_000),
        b'{"type":"Ready","unsafe":[7]}',
    ],
)
def test_anything_else_of_a_worker_is_an_error(packet):
    with pytest.raises(ChannelError, match="not a message") as raised:
        channel.decode(packet, Sender.WORKER)
    assert len(str(raised.value)) < 1500


@pytest.mark.parametrize(
    "packet", [b'{"type":"Drain"}', b'{"type":"Ready"}', b'{"type":"Drain","deadline":"1","successor":true}',
               b'{"type":"Drain","deadline":NaN,"successor":true}', b'{"type":"Drain","deadline":1e999,"successor":true}',
               b'{"type":"Drain","deadline":true,"successor":true}', b'{"type":"Drain","deadline":1,"successor":1}']
)  # fmt: skip
def test_anything_else_of_the_parent_is_an_error(packet):
    with pytest.raises(ChannelError, match="not a message"):
        channel.decode(packet, Sender.PARENT)


def test_a_trial_has_fewer_words_than_a_worker():
    with pytest.raises(ChannelError, match="its type is none of Ready, BootFailed"):
        channel.decode(channel.encode(DrainDone()), Sender.TRIAL)


@pytest.mark.parametrize(
    "message",
    [
        BootFailed("crash", "r" * 99999, "d" * 999999),
        BootFailed("crash", "\x1b" * 99999, "\ud800" * 99999),
        BootFailed("crash", "\U0001f600" * 99999, "\U0001f600" * 99999),
        DrainDone(["x" * 9999] * 9999),
        DrainDone(["\U0001f600" * 9999] * 9999),
        channel.Reopened("\U0001f600\n" * 9999),
        channel.Dumped("x" * 99999),
    ],
)
def test_long_texts_are_cut_to_a_packet(message):
    packet = channel.encode(message)
    assert len(packet) <= MAX_MESSAGE
    assert type(channel.decode(packet, Sender.WORKER)) is type(message)


def test_a_report_that_is_too_deep_is_left_out():
    """An honest worker sends nothing that `decode` refuses, or it would be killed for it."""
    sent = Ready({"main": {"file": "f", "app_name": "a", "tree": DEEP}}, ["seen"])
    assert channel.decode(channel.encode(sent), Sender.WORKER) == Ready({}, ["seen"])


def test_a_report_that_is_too_long_is_left_out():
    tree = {**DEEP, "parts": [], "uses": "x" * 99999}
    packet = channel.encode(Ready({"main": {**REPORT["main"], "tree": tree}}))
    assert channel.decode(packet, Sender.TRIAL) == Ready()


def test_requests_that_are_not_named_are_counted():
    packet = channel.encode(DrainDone(["GET /"] * 5000, 2))
    found = channel.decode(packet, Sender.WORKER)
    assert len(found.cut) + found.more == 5002


def test_texts_neither_begin_a_line_nor_control_a_terminal():
    message = BootFailed("crash", "a\nb\x1b[2J\x9b\u2028", "one\n\x1btwo\r\x0bthree\ud800")
    raw = json.dumps({"type": "BootFailed", **dataclasses.asdict(message)}).encode()
    for packet in (raw, channel.encode(message)):
        found = channel.decode(packet, Sender.WORKER)
        assert found.reason == r"a\nb\x1b[2J\x9b\u2028"
        assert found.detail == "one\n" + r"\x1btwo\r\x0bthree\ud800"


WORDS = sorted({field.name for message, _ in MESSAGES for field in dataclasses.fields(message)})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["config", "rss", 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)


def accepted(packet, sender):
    """Decode; whatever passes is one of the sender's messages, clean, and passes again as it was."""
    try:
        found = channel.decode(packet, sender)
    except ChannelError:
        return
    assert type(found) in SENT_BY[sender]
    for value in dataclasses.asdict(found).values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and sender is not Sender.PARENT:
                assert clean(one, lines=True) == one
    assert channel.decode(channel.encode(found), sender) == found


@given(st.binary(max_size=300), st.sampled_from(Sender))
def test_arbitrary_bytes(packet, sender):
    accepted(packet, sender)


@given(st.sampled_from(MESSAGES), st.integers(0, 10**6), st.binary(max_size=4), st.sampled_from(Sender))
def test_a_message_with_octets_replaced(message, at, octets, sender):
    packet = bytearray(channel.encode(message[0]))
    at %= len(packet)
    packet[at : at + len(octets)] = octets
    accepted(bytes(packet), sender)


@given(st.sampled_from(MESSAGES), st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=2), st.sampled_from(Sender))
def test_a_message_with_fields_replaced(message, fields, sender):
    document = {"type": type(message[0]).__name__, **dataclasses.asdict(message[0]), **fields}
    accepted(json.dumps(document).encode(), sender)


def test_messages_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ready().report = {}
