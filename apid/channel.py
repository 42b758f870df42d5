"""What parent and worker say to each other: frozen dataclasses, encoded and decoded here; no I/O.

They travel over a SOCK_SEQPACKET socketpair, one message a packet, as UTF-8 JSON: an object whose `type` names the class.
The end of the stream means that the other side is gone, and says it even after kill -9.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apid.conf.settings import Settings
    from apid.scoreboard import Row, Scoreboard

MAX_MESSAGE = 64 * 1024
"""Bytes; the sender shortens texts to fit, so that a packet never exceeds the default socket buffer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker is born with: everything that it inherits by the fork.

    Attributes:
        trial: load everything, say Ready or BootFailed, serve nothing, exit.
        listeners: by listener name the plain, non-blocking, shared listening sockets.
        channel: the worker's end; None when served inline, without a parent.
        stacks: a memfd into which faulthandler writes at SIGUSR2; -1: the standard error.
    """

    slot: int
    generation: int
    settings: Settings
    listeners: Mapping[str, Sequence[socket.socket]]
    channel: socket.socket | None
    board: Scoreboard
    row: Row
    trial: bool = False
    stacks: int = -1


class ChannelError(ValueError):
    """Bytes on a channel that are no message: the peer runs another version, or a bug."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """Worker: the pipeline is loaded and every listener is being served (or, in a trial, could be)."""

    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    """For --check-config: per listener the pipeline, its filters and routes, where the app tells them."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """What the operator should know of the pipelines."""


@dataclasses.dataclass(frozen=True, slots=True)
class BootFailed:
    """Worker: it cannot serve and is about to exit.

    Attributes:
        kind: `config` (the operator's files are wrong; trying again cannot help) or `crash`.
        reason: one line for the operator. detail: a traceback for the log, or empty.
    """

    kind: str
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RecycleAsked:
    """Worker: it wants to be replaced (`max_requests` or `rss`); it goes on serving until told to drain."""

    cause: str


@dataclasses.dataclass(frozen=True, slots=True)
class Draining:
    """Worker: it accepts no connection any more; from now on only its siblings' generation meets new clients."""


@dataclasses.dataclass(frozen=True, slots=True)
class DrainDone:
    """Worker: it leaves; `cut` describes each request that is lost by that (method, path, age, id), `more` counts others."""

    cut: list[str] = dataclasses.field(default_factory=list)
    more: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """Parent: stop accepting, finish what is in flight, exit.

    Attributes:
        deadline: seconds from now until what is left is cut; 0: never.
        successor: whether other workers go on accepting from the same sockets (a reload, a recycling); without one, the
            connections waiting in the kernel's queue are this worker's to answer.
        addresses: where no process listens after this drain (removed by a reload), in the spelling of the option bind; empty
            with no successor.
    """

    deadline: float
    successor: bool
    addresses: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Reopen:
    """Parent: reopen the log files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reopened:
    """Worker: the log files are reopened; `error` is empty or says why one could not be."""

    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Dump:
    """Parent: write the stacks of all green threads to the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dumped:
    """Worker: the stacks are in the log; `error` is empty or says why they are not."""

    error: str = ""


Message = Ready | BootFailed | RecycleAsked | Draining | DrainDone | Drain | Reopen | Reopened | Dump | Dumped

_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (Ready, BootFailed, RecycleAsked, Draining, DrainDone, Drain, Reopen, Reopened, Dump, Dumped)
}


def encode(message: Message) -> bytes:
    """Return the packet for a message; long texts of a `BootFailed` or `DrainDone` are shortened to MAX_MESSAGE."""
    data = _dump(message)
    if len(data) <= MAX_MESSAGE:
        return data
    if isinstance(message, BootFailed):
        return _dump(dataclasses.replace(message, reason=message.reason[:2000], detail="..." + message.detail[-8000:]))
    if isinstance(message, DrainDone):
        kept = [line[:200] for line in message.cut[:100]]
        return _dump(DrainDone(kept, len(message.cut) - len(kept)))
    if isinstance(message, Ready):
        return _dump(Ready({"truncated": True}, [text[:500] for text in message.warnings[:20]]))
    raise ChannelError(f"a {type(message).__name__} of {len(data)} bytes does not fit into a packet")


def _dump(message: Message) -> bytes:
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    return json.dumps({"type": type(message).__name__, **fields}, separators=(",", ":")).encode()


def decode(packet: bytes) -> Message:
    """Return the message of a packet.

    Raises:
        ChannelError: the packet is not JSON, names no known type, or its fields are not that type's.
    """
    try:
        fields = json.loads(packet)
        cls = _TYPES[fields.pop("type")]
        message: Message = cls(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChannelError(f"not a message: {packet[:200]!r} ({error})") from error
    return message
