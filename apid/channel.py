"""What parent and worker say to each other: frozen dataclasses, encoded and decoded here; no I/O.

They travel over a SOCK_SEQPACKET socketpair, one message a packet, as UTF-8 JSON: an object whose `type` names the class.
The end of the stream means that the other side is gone, and says it even after kill -9.

An application shares the process of its worker, so a packet of a worker may hold anything. `decode` accepts only the messages of
its sender (`SENT_BY`), with exact types within the bounds that each field declares; texts lose their control characters, and all
but tracebacks become one line. How often a worker may send each message is in apid.parent.protocol.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from apid.bounds import clean, flag, items, loads, mapping, number, of, one_of, record, text, whole

if TYPE_CHECKING:
    from apid.conf.settings import Settings
    from apid.scoreboard import Row, Scoreboard

MAX_MESSAGE = 64 * 1024
"""Bytes; the sender shortens texts to fit, so that a packet never exceeds the default socket buffer."""

LONGEST_LINE = 2000
"""Characters of a reason or an error."""

MOST_CUT = 1000
"""Requests that a `DrainDone` names; it counts the others."""

MOST_WARNINGS = 100

DEEPEST = 40
"""Levels of sections in a report."""


class Sender(enum.Enum):
    """Who speaks."""

    PARENT = enum.auto()
    WORKER = enum.auto()
    TRIAL = enum.auto()
    """A trial or a mold: what loads an application, and serves nothing."""
    NEWBORN = enum.auto()
    """What a mold has forked, before the parent knows its pid."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker is born with: everything that it inherits by the fork.

    Attributes:
        trial: load everything, say Ready or BootFailed, serve nothing, exit.
        mold: a trial that does not exit, if what it has loaded can be forked, but forks workers.
        listeners: by listener name the plain, non-blocking, shared listening sockets.
        channel: the worker's end; None when served inline, without a parent.
        stacks: a memfd for the stacks that the parent requests; -1: the standard error.
    """

    slot: int
    generation: int
    settings: Settings
    listeners: Mapping[str, Sequence[socket.socket]]
    channel: socket.socket | None
    board: Scoreboard
    row: Row
    trial: bool = False
    mold: bool = False
    stacks: int = -1


class ChannelError(ValueError):
    """Bytes on a channel that are no message of their sender."""


_Line = Annotated[str, text(LONGEST_LINE)]
_Word = text(MAX_MESSAGE)


def _section(value: object, deepest: int = DEEPEST) -> dict[str, Any]:
    if not deepest:
        raise ValueError(f"more than {DEEPEST} levels of sections")
    parts = items(lambda part: _section(part, deepest - 1), MAX_MESSAGE)
    more = {"served_at": _Word, "routes": items(items(_Word, 3), MAX_MESSAGE)}
    section: dict[str, Any] = record({"section": _Word, "uses": _Word, "parts": parts}, more)(value)
    return section


_report = mapping(_Word, record({"file": _Word, "app_name": _Word, "tree": _section}), MAX_MESSAGE)


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """Worker: the pipeline is loaded and every listener is being served (or, in a trial, could be)."""

    report: Annotated[dict[str, Any], _report] = dataclasses.field(default_factory=dict)
    """For --check-config: by listener what apid.worker.pipeline.describe returns; empty where that is too long or too deep."""
    warnings: Annotated[list[str], items(text(LONGEST_LINE), MOST_WARNINGS)] = dataclasses.field(default_factory=list)
    """What the operator should know of the pipelines."""
    stays: Annotated[bool, flag] = False
    """Trial: it stays as the mold of its generation, and forks workers."""
    code: Annotated[str, text(48 * 1024)] = ""
    """Mold: stands for what it has loaded."""
    unsafe: Annotated[list[str], items(text(LONGEST_LINE), MOST_WARNINGS)] = dataclasses.field(default_factory=list)
    """Trial: what has been opened while loading that processes cannot share."""


@dataclasses.dataclass(frozen=True, slots=True)
class BootFailed:
    """Worker: it cannot serve and is about to exit.

    Attributes:
        kind: `config` (the operator's files are wrong; trying again cannot help) or `crash`.
        reason: one line for the operator. detail: a traceback for the log, or empty.
    """

    kind: Annotated[str, one_of("config", "crash")]
    reason: _Line
    detail: Annotated[str, text(MAX_MESSAGE, lines=True)] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RecycleAsked:
    """Worker: it wants to be replaced, and goes on serving until told to drain.

    Causes: recycle (`max_requests`), rss (`max_worker_rss`), stuck (more than half of its slots are held by requests that
    `request_timeout` could not end).
    """

    cause: Annotated[str, one_of("recycle", "rss", "stuck")]


@dataclasses.dataclass(frozen=True, slots=True)
class Draining:
    """Worker: it accepts no connection any more; from now on only its siblings' generation meets new clients."""


@dataclasses.dataclass(frozen=True, slots=True)
class DrainDone:
    """Worker: it leaves; `cut` describes each request that is lost by that (method, path, age, id), `more` counts others."""

    cut: Annotated[list[str], items(text(LONGEST_LINE), MOST_CUT)] = dataclasses.field(default_factory=list)
    more: Annotated[int, whole(0, 2**32)] = 0


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

    deadline: Annotated[float, number(0, 1e9)]
    successor: Annotated[bool, flag]
    addresses: Annotated[list[str], items(text(MAX_MESSAGE, raw=True), MAX_MESSAGE)] = dataclasses.field(
        default_factory=list
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Reopen:
    """Parent: reopen the log files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reopened:
    """Worker: the log files are reopened; `error` is empty or says why one could not be."""

    error: _Line = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Dump:
    """Parent: write the stacks of all threads, green or native, to the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dumped:
    """Worker: the stacks are in the log; `error` is empty or says why they are not."""

    error: _Line = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Fork:
    """Parent: fork a worker. Descriptors come along: its channel, its stacks, the workers' memory, its listeners.

    Attributes:
        row: of the scoreboard. listeners: how many sockets each listener has, in their order.
    """

    slot: Annotated[int, whole(0, 2**16)]
    row: Annotated[int, whole(0, 2**16)]
    listeners: Annotated[dict[str, int], mapping(text(MAX_MESSAGE, raw=True), whole(0, 2**16), MAX_MESSAGE)]


@dataclasses.dataclass(frozen=True, slots=True)
class Born:
    """Newborn: it is a child of the parent; the kernel says of which pid (SCM_CREDENTIALS, unix(7))."""


@dataclasses.dataclass(frozen=True, slots=True)
class NotBorn:
    """Mold, over the channel of the worker: it could not be forked."""

    reason: _Line


Message = (
    Ready
    | BootFailed
    | RecycleAsked
    | Draining
    | DrainDone
    | Drain
    | Reopen
    | Reopened
    | Dump
    | Dumped
    | Fork
    | Born
    | NotBorn
)


SENT_BY: Mapping[Sender, tuple[type[Any], ...]] = {
    Sender.PARENT: (Drain, Reopen, Dump, Fork),
    Sender.WORKER: (Ready, BootFailed, RecycleAsked, Draining, DrainDone, Reopened, Dumped),
    Sender.TRIAL: (Ready, BootFailed),
    Sender.NEWBORN: (Born, NotBorn),
}
"""The messages of each sender; any other is refused."""


_KNOWN = {sender: {message.__name__: of(message) for message in messages} for sender, messages in SENT_BY.items()}


def encode(message: Message) -> bytes:
    """Return the packet for a message; its texts are cleaned, and shortened to what `decode` accepts."""
    match message:
        case BootFailed():
            return _boot_failed(message)
        case DrainDone():
            kept = [clean(line)[:LONGEST_LINE] for line in message.cut[:MOST_CUT]]
            data = _dump(DrainDone(kept, message.more + len(message.cut) - len(kept)))
            if len(data) <= MAX_MESSAGE:
                return data
            kept = [line[:40] for line in kept[:100]]  # 12 bytes a character at most
            return _dump(DrainDone(kept, message.more + len(message.cut) - len(kept)))
        case Ready():
            report, warnings, unsafe = _accepted(message.report), _lines(message.warnings), _lines(message.unsafe)
            data = _dump(Ready(report, warnings, message.stays, message.code, unsafe))
            if len(data) > MAX_MESSAGE:
                data = _dump(Ready({}, _fewer(warnings), message.stays, message.code, _fewer(unsafe)))
            return data
        case Reopened() | Dumped():
            return _dump(dataclasses.replace(message, error=clean(message.error)[:LONGEST_LINE]))
        case NotBorn():
            return _dump(NotBorn(clean(message.reason)[:LONGEST_LINE]))
    data = _dump(message)
    if len(data) <= MAX_MESSAGE:
        return data
    raise ChannelError(f"a {type(message).__name__} of {len(data)} bytes does not fit into a packet")


def _lines(texts: Sequence[str]) -> list[str]:
    return [clean(line)[:LONGEST_LINE] for line in texts[:MOST_WARNINGS]]


def _fewer(texts: Sequence[str]) -> list[str]:
    """A packet holds these beside others, 12 bytes a character at most."""
    return [line[:100] for line in texts[:20]]


def _accepted(report: dict[str, Any]) -> dict[str, Any]:
    """The report if `decode` accepts it; its size and depth are the application's."""
    try:
        _report(report)
    except ValueError:
        return {}
    return report


def _boot_failed(message: BootFailed) -> bytes:
    """The end of a traceback says most."""
    reason, detail = clean(message.reason)[:LONGEST_LINE], clean(message.detail, lines=True)
    data = _dump(BootFailed(message.kind, reason, detail))
    room = MAX_MESSAGE // 2
    while len(data) > MAX_MESSAGE:
        data = _dump(BootFailed(message.kind, reason, "..." + detail[-room:]))
        room //= 2
    return data


def _dump(message: Message) -> bytes:
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    return json.dumps({"type": type(message).__name__, **fields}, separators=(",", ":")).encode()


def decode(packet: bytes, sender: Sender) -> Message:
    """Return the message of a packet that came from `sender`.

    Raises:
        ChannelError: the packet is too long or not JSON, names no type of this sender, or its fields are not that type's.
    """
    try:
        if len(packet) > MAX_MESSAGE:
            raise ValueError(f"longer than {MAX_MESSAGE} bytes")  # noqa: TRY301 - one text for all that is wrong with it
        value = loads(packet)
        fields = dict(value) if isinstance(value, dict) else {}
        name = fields.pop("type", None)
        known = _KNOWN[sender]
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"its type is none of {', '.join(known)}")  # noqa: TRY301 - as above
        message: Message = known[name](fields)
    except ValueError as error:
        raise ChannelError(f"not a message: {packet[:200]!r} ({error})") from error
    return message
