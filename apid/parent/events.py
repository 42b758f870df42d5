"""What happened, and what shall be done: the two vocabularies between the plan (pure) and the world.

Times in events are monotonic seconds given by the loop; a plan never reads a clock.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from apid.channel import Message
from apid.conf.settings import Daemon
from apid.parent.phases import Command


class Cause:
    """Why a worker ended: the closed set. `crash:SIGNAL` and `exit:N` are made of its status."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    RSS = "rss"
    STUCK = "stuck"
    SCALE = "scale"
    HUNG = "hung"
    BOOT = "boot"
    STOP = "stop"


# ---- events ----


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A command, by signal (`who` is None) or over the control socket (`who` names the connection to answer)."""

    command: Command
    who: int | None = None
    number: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """The configuration of a generation was read and its new addresses are bound."""

    generation: int
    daemon: Daemon


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """An action could not be done, or a trial ended badly; `exit_code` is what a start would end with."""

    generation: int
    reason: str
    detail: str = ""
    exit_code: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """The generation of the change is the present one. `trouble` names each step of the commit that failed; all were tried."""

    trouble: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TrialStarted:
    """A throw-away child loads the new configuration, or the new program is tried."""

    generation: int
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class MoldStarted:
    """A process loads the application of a generation."""

    generation: int
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class CastFailed:
    """fork(2) failed for a mold."""

    generation: int
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Spawned:
    """A worker was forked; `mold` is the pid of who forked it, 0 for the parent, and `took` the seconds since it was asked to."""

    pid: int
    slot: int
    generation: int
    row: int
    mold: int = 0
    took: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class SpawnFailed:
    """No worker was forked: fork(2) failed, or the mold is no more; `gone`: that it has ended is news of the same turn."""

    slot: int
    generation: int
    reason: str
    mold: int = 0
    gone: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """A child sent a message."""

    pid: int
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """A child sent a packet that is no message; `reason` quotes it."""

    pid: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Exited:
    """A child was reaped; `code` is negative for a signal, `lost` describes the requests that it had in flight."""

    pid: int
    code: int
    lost: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Silent:
    """A worker has not beaten for `age` seconds."""

    pid: int
    age: float
    hung: bool
    """Past worker_timeout, seen more than once, while the parent itself was not held up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Beating:
    """A worker that was silent beats again."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Queued:
    """How many connections wait in the accept queues of all listeners; UNIX sockets count as 1 or 0."""

    waiting: int


@dataclasses.dataclass(frozen=True, slots=True)
class Abandoned:
    """The listening sockets are closed, and this many connections in their accept queues are lost."""

    waiting: int


@dataclasses.dataclass(frozen=True, slots=True)
class LogsReopened:
    """The parent's own log is reopened; or, with an `error`, still the old one."""

    error: str = ""


Event = (
    Asked
    | Prepared
    | Failed
    | Committed
    | TrialStarted
    | MoldStarted
    | CastFailed
    | Spawned
    | SpawnFailed
    | Said
    | Violation
    | Exited
    | Silent
    | Beating
    | Queued
    | Abandoned
    | LogsReopened
    | Tick
)

# ---- actions ----


@dataclasses.dataclass(frozen=True, slots=True)
class Prepare:
    """Read the configuration again and bind what is new in it. Answered by Prepared or Failed."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Try:
    """Load configuration and pipelines in a throw-away child. Answered by TrialStarted, then Said and Exited."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Cast:
    """Fork a mold, which loads what `Try` loads. Answered by MoldStarted or CastFailed, then Said, at its end Exited."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class TryProgram:
    """Start the installed program in a child that only says whether it could take over. Answered as Try."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Exec:
    """Become the installed program, with sockets, children and state. Answered only on failure, by Failed."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker, or have the mold of this pid fork it. Answered by Spawned or SpawnFailed, of a mold in a later turn."""

    slot: int
    generation: int
    mold: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to a child; a child that is gone is noticed by its exit, not here."""

    pid: int
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell a worker to drain within `deadline` seconds; the effect adds the addresses that end with it."""

    pid: int
    deadline: float
    successor: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """Send a signal to a child."""

    pid: int
    signum: int


@dataclasses.dataclass(frozen=True, slots=True)
class Expose:
    """Have the stacks and the requests in flight of a silent worker written into the log."""

    pid: int
    age: float
    hung: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """The generation is the one: its settings apply, listeners that it does not have are closed here. Answered by Committed."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Discard:
    """The generation will not be: close what was bound only for it."""

    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unlisten:
    """Close the parent's listening sockets and remove their files: a stop.

    With `abandon` no worker answers what is in the accept queues; answered by Abandoned then.
    """

    abandon: bool


@dataclasses.dataclass(frozen=True, slots=True)
class LookAtQueues:
    """See whether connections wait in the accept queues. Answered by Queued."""


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """Let every worker know whether the daemon leaves, which is another fact than that a worker does: health checks tell it."""

    leaving: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Retire:
    """A worker has ended: fold its counters, free its row, log its cause and the requests that are lost with it."""

    pid: int
    slot: int
    generation: int
    row: int
    cause: str
    reason: str = ""
    lost: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """Answer the one who asked over the control socket; `ok` is the verdict."""

    who: int
    ok: bool
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Say:
    """A line for the log; `fields` may hold worker, gen, pid."""

    level: int
    text: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Announce:
    """Tell the service manager: `ready`, `reloading`, `stopping`; and its status line follows."""

    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Reopen the parent's own log. Answered by LogsReopened."""


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """The parent's own exit."""

    code: int
    reason: str = ""


Action = (
    Prepare
    | Try
    | Cast
    | TryProgram
    | Exec
    | Spawn
    | Tell
    | DrainWorker
    | Kill
    | Expose
    | Commit
    | Discard
    | Unlisten
    | LookAtQueues
    | Leave
    | Retire
    | Reply
    | Say
    | Announce
    | ReopenLogs
    | End
)
