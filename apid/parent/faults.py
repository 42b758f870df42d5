"""Unexpected exceptions of the parent: logged with their traceback at a bounded rate, and turned into the outcome of an action.

The parent supervises on whatever is raised: a fault costs what was being done, never the daemon. A fault that persists must
neither spin nor flood the log, so each one is logged once a minute and slows the loop down.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator

from apid.loggers import logger
from apid.parent import events
from apid.parent.events import Action, Event

LOG = logger("apid.parent")

AGAIN = 60.0
"""Seconds after which a fault that persists is logged again, with the number of its repetitions."""

KEPT = 100
"""Distinct faults that are kept."""

LONGEST_PAUSE = 1.0
"""Seconds that the loop waits after a turn with a fault, when the turns before had faults too."""


class Faults:
    """Notes exceptions; `pause` says how long the loop rests after a turn."""

    def __init__(self) -> None:
        self._logged: dict[str, tuple[float, int]] = {}
        """Fault -> (monotonic seconds of its line in the log, repetitions since)."""
        self._fresh = False
        self._turns = 0
        detail(_sample())  # what the formatting of a traceback imports is imported now

    @contextlib.contextmanager
    def caught(self, doing: str) -> Iterator[None]:
        """Note an exception of the block, and go on after it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent goes on
            self.note(doing, error)

    def note(self, doing: str, error: BaseException) -> None:
        """Log `error` with its traceback, unless the same one was logged less than a minute ago. Never raises."""
        self._fresh = True
        with contextlib.suppress(Exception):
            key = f"{doing}: {describe(error)[:200]}"
            now = time.monotonic()
            at, repeated = self._logged.get(key, (-AGAIN, 0))
            if now - at < AGAIN:
                self._logged[key] = at, repeated + 1
                return
            if len(self._logged) >= KEPT:
                self._logged.clear()
            self._logged[key] = now, 0
            more = f" ({repeated} more times since the last such line)" if repeated else ""
            LOG.error("%s failed: %s%s", doing, describe(error), more, extra={"block": detail(error)})

    def pause(self) -> float:
        """Seconds to rest after the turn that ends here: 0 without a fault, longer with each faulty turn in a row."""
        self._turns = self._turns + 1 if self._fresh else 0
        self._fresh = False
        return min(LONGEST_PAUSE, 0.005 * 2 ** min(self._turns, 10)) if self._turns else 0.0


def outcome(action: Action, error: BaseException) -> list[Event]:
    """Return what has happened when an action raised `error`: a change fails, a fork fails; other actions have no answer."""
    reason = describe(error)
    match action:
        case events.Prepare() | events.Try() | events.TryProgram() | events.Exec():
            return [events.Failed(action.generation, reason, detail(error))]
        case events.Spawn():
            return [events.SpawnFailed(action.slot, action.generation, reason, action.mold)]
        case events.Cast():
            return [events.CastFailed(action.generation, reason, detail(error))]
        case events.Commit():
            return [events.Committed((reason,))]
        case events.ReopenLogs():
            return [events.LogsReopened(reason)]
    return []


def describe(error: BaseException) -> str:
    """Return `OverflowError: Python int too large to convert to C long`."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an exception whose text cannot be made has a name at least
        return type(error).__name__


def detail(error: BaseException) -> str:
    """Return the traceback; empty when there is no memory or no descriptor to make it with."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - the reason alone must do
        return ""


def _sample() -> BaseException:
    try:
        return KeyError(1 / 0)
    except ZeroDivisionError as error:
        return error
