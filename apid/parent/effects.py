"""Performs the plan's actions: one method an action. What fails becomes an event; what to do about it is decided elsewhere.

Whatever an action raises ends here (`perform`): of a change it becomes the failure of that change, otherwise a line in the log.
Each action that makes several things takes them back when a later one fails, so no descriptor and no child is lost.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from apid import channel, log
from apid.conf.settings import Daemon, Settings
from apid.errors import ApidError, BindError, ConfigError
from apid.flight import in_words
from apid.loggers import logger
from apid.parent import events, faults, foundations, ownlog, program
from apid.parent.births import TRIALS, Births
from apid.parent.events import Action, Cause, Event
from apid.parent.exposures import Exposures
from apid.parent.listeners import Listeners, Places, keys_of
from apid.parent.memory import Memory
from apid.parent.reservation import Holdings, Reservation
from apid.posix import processes, systemd
from apid.scoreboard import GENERATION, REQUESTS, Scoreboard

LOG = logger("apid.parent")

Load = Callable[[], Settings]
RunWorker = Callable[[channel.Ticket], NoReturn]


class Effects:
    """The hands of the parent: everything it holds that is not a plain value.

    Attributes:
        settings: of each generation that is or may be. births: the children's descriptors and rows.
        code: set once the daemon is to end.
    """

    def __init__(
        self,
        settings: Settings | None,
        listeners: Listeners,
        *,
        load: Load,
        run_worker: RunWorker,
        notifier: systemd.Notifier,
        argv: Sequence[str],
        directory: str = "",
        places: Places,
        holdings: Holdings,
        board: Scoreboard | None = None,
        generation: int = 1,
    ) -> None:
        self.settings: dict[int, Settings] = {generation: settings} if settings else {}
        self.generation = generation
        self.listeners = listeners
        self.board = board or Scoreboard.create()
        self.births = Births(self.board, listeners)
        self.channels, self.rows, self.stacks = self.births.channels, self.births.rows, self.births.stacks
        self.memory = Memory()
        self.holdings = holdings
        self.notifier = notifier
        self.argv = tuple(argv)
        self.directory = directory
        """Where the daemon was started: an upgrade's program begins there."""
        self.reaped: set[int] = set()
        """Children that were waited for in this turn of the loop; their numbers may be other processes' by now."""
        self.code: int | None = None
        self.reason = ""
        self.faults = faults.Faults()
        self.in_child: Callable[[], None] = lambda: None
        """What the loop adds: closes its own descriptors in a fresh child."""
        self.become: Callable[[int], None] = lambda _: None
        """Set by the loop: exec the installed program; a failure comes as an event."""
        self._trials: dict[int, program.Trial] = {}
        self._load = load
        self._run_worker = run_worker
        self.places: dict[int, Places] = {generation: places}
        """Where each generation listens; an upgrade carries it over, settings are read again."""
        self._reserved: dict[int, Reservation] = {}
        self.exposures = Exposures(self.board, self.rows, self.stacks)
        self._warned: set[str] = set()
        if settings is not None:
            foundations.warn(settings, self._warned)

    # ---- the door ----

    def perform(self, action: Action) -> list[Event]:
        """Do one thing; returns what happened, for the plan. Never raises an Exception."""
        try:
            return self._perform(action)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what reads a configuration may also want to leave
            happened = faults.outcome(action, error)
            if not any(isinstance(event, events.Failed) for event in happened):  # that one is logged with its traceback
                self.faults.note(f"the action {type(action).__name__}", error)
            return happened

    def _perform(self, action: Action) -> list[Event]:
        match action:
            case events.Spawn():
                return self._spawn(action)
            case events.Cast():
                return [self._cast(action.generation)]
            case events.Prepare():
                return [self._prepare(action.generation)]
            case events.Try():
                return [self._try(action.generation)]
            case events.TryProgram():
                return [self._try_program(action.generation)]
            case events.Exec():
                self.become(action.generation)
            case events.ReopenLogs():
                return [ownlog.reopen()]
            case events.Commit():
                return [self._commit(action.generation)]
            case events.LookAtQueues() | events.Unlisten():
                return self._queues(action)
            case events.Tell() | events.DrainWorker() | events.Kill() | events.Expose():
                self._address(action)
            case _:
                self._housekeep(action)
        return []

    def _address(self, action: events.Tell | events.DrainWorker | events.Kill | events.Expose) -> None:
        match action:
            case events.Tell():
                self._tell(action.pid, action.message)
            case events.DrainWorker():
                self._drain(action)
            case events.Kill():
                with self.faults.caught("the log of a stack"):
                    self.exposures.collect(float("inf"))
                if action.pid not in self.reaped:
                    # the installed program that is tried has a child of its own, which loads the pipelines
                    processes.kill(action.pid, action.signum, group=action.pid in self._trials)
            case events.Expose():
                self.exposures.ask(action.pid, action.age, hung=action.hung)

    def _queues(self, action: events.LookAtQueues | events.Unlisten) -> list[Event]:
        if isinstance(action, events.LookAtQueues):
            return [events.Queued(self.listeners.waiting())]
        try:
            waiting = self.listeners.waiting()
        finally:
            self.listeners.close()
        return [events.Abandoned(waiting)] if action.abandon else []

    def _housekeep(self, action: Action) -> None:
        match action:
            case events.Discard():
                self._discard(action.generation)
            case events.Leave():
                self.board.leaving = action.leaving
            case events.Retire():
                self._retire(action)
            case events.Reply() if self.holdings.control:
                self.holdings.control.reply(action.who, action.ok, action.text)
            case events.Say():
                LOG.log(action.level, "%s", action.text, extra=_extra(action.fields, action.detail))
            case events.Announce():
                self._announce(action.what)
            case events.End():
                self.code, self.reason = action.code, action.reason

    # ---- children ----

    def _spawn(self, action: events.Spawn) -> list[Event]:
        slot, generation, mold = action.slot, action.generation, action.mold
        if generation not in self.settings and not mold:  # upgraded, and the configuration cannot be read any more
            return [events.SpawnFailed(slot, generation, "its configuration is gone; mend it and reload")]
        if mold and mold not in self.births.channels:
            return [events.SpawnFailed(slot, generation, "its mold has ended", mold, gone=True)]
        row = self.births.free_row()
        if row < 0:
            return [events.SpawnFailed(slot, generation, "every row of the scoreboard is taken", mold)]
        try:
            if mold:
                self.births.order(mold, (slot, generation, row), self.places[generation])
                return []
            pid = self._fork("worker", slot, generation, row)
        except OSError as error:
            return [events.SpawnFailed(slot, generation, error.strerror or str(error), mold)]
        return [events.Spawned(pid, slot, generation, row)]

    def _fork(self, kind: str, slot: int, generation: int, row: int) -> int:
        keys = self.places[generation]

        def child(ticket: channel.Ticket) -> NoReturn:
            self.in_child()
            for holdings in [self.holdings, *(reserved.fresh for reserved in self._reserved.values())]:
                holdings.in_child()
            self.listeners.keep([] if kind == "mold" else keys_of(keys))
            self._run_worker(ticket)

        pid = self.births.fork(kind, (slot, generation, row), self.settings[generation], keys, child)
        self.reaped.discard(pid)
        return pid

    def _try(self, generation: int) -> Event:
        try:
            pid = self._fork("trial", 0, generation, TRIALS)
        except OSError as error:
            return events.Failed(generation, f"cannot fork a trial: {error.strerror}")
        return events.TrialStarted(generation, pid)

    def _cast(self, generation: int) -> Event:
        if generation not in self.settings:
            return events.CastFailed(generation, "its configuration is gone; mend it and reload")
        try:
            pid = self._fork("mold", 0, generation, TRIALS)
        except OSError as error:
            return events.CastFailed(generation, error.strerror or str(error))
        return events.MoldStarted(generation, pid)

    def _try_program(self, generation: int) -> Event:
        try:
            trial = program.Trial.start(self.argv, self.directory)
        except OSError as error:
            return events.Failed(generation, f"cannot start the installed program {self.argv[0]}: {error.strerror}")
        self.reaped.discard(trial.pid)
        self._trials[trial.pid] = trial
        return events.TrialStarted(generation, trial.pid)

    def trial_over(self, pid: int, code: int) -> list[Event]:
        """The words of a tried program that has ended, as if it had spoken over a channel."""
        trial = self._trials.pop(pid, None)
        if trial is None:
            return []
        text = trial.output()
        if code == 0:
            return [events.Said(pid, channel.Ready())]
        last = text.strip().splitlines()[-1] if text.strip() else f"exit code {code}"
        reason = f"the installed program cannot take over: {last}"
        return [events.Said(pid, channel.BootFailed("config", reason, text))]

    def _tell(self, pid: int, message: channel.Message) -> None:
        sock = self.channels.get(pid)
        if sock is not None:
            # A worker that reads nothing is silent or gone: both are noticed elsewhere, and what was asked has its deadline.
            with contextlib.suppress(OSError):
                sock.send(channel.encode(message))

    def _drain(self, action: events.DrainWorker) -> None:
        ends: list[str] = []
        if action.successor:
            row = self.board.row(self.rows[action.pid])
            mine = self.places.get(row.seat[GENERATION], {})
            kept = {address for keys in self.places[self.generation].values() for address in keys.values()}
            ends = [address for keys in mine.values() for address in keys.values() if address not in kept]
        self._tell(action.pid, channel.Drain(action.deadline, action.successor, ends))

    def _retire(self, action: events.Retire) -> None:
        self.rows.pop(action.pid, None)
        self.births.forget(action.pid)
        row = self.board.row(action.row)
        expected = action.cause in (Cause.RELOAD, Cause.STOP, Cause.SCALE) or not action.reason
        level = logging.ERROR if action.cause not in _PLANNED else logging.WARNING if action.lost else logging.INFO
        text = f"worker ended: {action.cause}" + ("" if expected else f": {action.reason}")
        text += f" ({row.cells[REQUESTS]} requests)" + (
            f"; requests in flight: {in_words(action.lost)}" if action.lost else ""
        )
        self.board.fold(row)
        LOG.log(level, "%s", text, extra=log.about(action.slot, action.generation, action.pid))
        used = {self.board.row(index).seat[GENERATION] for index in self.rows.values()}
        for generation in [g for g in self.places if g < self.generation and g not in used]:
            self.settings.pop(generation, None)
            del self.places[generation]

    def in_flight(self, pid: int) -> tuple[str, ...]:
        """The requests in flight of a worker that may have ended already; none of one that is no worker."""
        return self.board.row(self.rows[pid]).in_flight() if pid in self.rows else ()

    # ---- generations ----

    def _prepare(self, generation: int) -> Event:
        try:
            settings = self._load()
            if settings.daemon.workers == 0:
                raise ConfigError("option workers: 0 (inline) is for a start, not for a reload")
            ownlog.reserve(settings)
            self._reserved[generation] = Reservation.take(settings, self.listeners, self.holdings)
        except ApidError as error:
            log.release()
            return events.Failed(generation, str(error), exit_code=error.exit_code)
        foundations.warn(settings, self._warned)
        self.settings[generation] = settings
        self.places[generation] = self._reserved[generation].places
        return events.Prepared(generation, settings.daemon)

    def _discard(self, generation: int) -> None:
        self.settings.pop(generation, None)
        self.places.pop(generation, None)
        log.release()
        reserved = self._reserved.pop(generation, None)
        if reserved is not None:
            reserved.release(self.listeners)

    def _commit(self, generation: int) -> Event:
        """From here there is no way back: each step is performed whatever becomes of the others, and each failure is reported."""
        settings = self.settings[generation]
        self.generation = generation
        reserved = self._reserved.pop(generation)
        daemon, held = settings.daemon, self.holdings
        steps: list[Callable[[], object]] = [
            lambda: self._release(reserved.places),
            lambda: self._tune(reserved.places, daemon),
            lambda: reserved.commit_control(daemon, held),
            lambda: ownlog.set_up(settings),
            lambda: reserved.commit_pid_file(daemon, held),
        ]
        trouble = []
        for step in steps:
            try:
                step()
            except ApidError as error:
                trouble.append(str(error))
            except Exception as error:  # noqa: BLE001 - each step is performed whatever becomes of the others
                self.faults.note(f"the commit of generation {generation}", error)
                trouble.append(faults.describe(error))
        return events.Committed(tuple(trouble))

    def _release(self, places: Places) -> None:
        gone = self.listeners.keep(keys_of(places))
        kept = {name for name, _ in self.listeners.stored()}
        for key, name in gone.items():
            if name not in kept:  # it was not bound again, after its file had been removed
                LOG.info("no longer listening on %s", key)
            self.notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _tune(self, places: Places, daemon: Daemon) -> None:
        try:
            self.listeners.tune(places, daemon)
        except OSError as error:  # it was bound with other rights
            raise BindError(f"cannot change the mode of a socket's file: {error}") from error

    # ---- telling ----

    def _announce(self, what: str) -> None:
        if what == "ready":
            self.notifier.send("READY=1")
            for name, sock in self.listeners.stored():
                self.notifier.send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=[sock.fileno()])
        elif what == "reloading":
            self.notifier.send("RELOADING=1", systemd.monotonic_usec())
        else:
            self.notifier.send("STOPPING=1")

    def end(self) -> None:
        """Leave nothing behind; what cannot be removed keeps nothing else."""
        steps: list[Callable[[], object]] = [lambda: self.exposures.collect(float("inf")), self.listeners.close]
        steps += [self.holdings.end, *(reserved.fresh.end for reserved in self._reserved.values())]
        steps += [self.births.end]
        steps += [functools.partial(self.births.forget, pid) for pid in list(self.channels)]
        for step in steps:
            with self.faults.caught("the end"):
                step()


_PLANNED = (Cause.RELOAD, Cause.STOP, Cause.SCALE, Cause.RECYCLE, Cause.RSS)


def _extra(fields: dict[str, int], block: str) -> dict[str, str]:
    """What a line of the log carries beside its text: the worker it is about, and a block of lines below it."""
    about = log.about(fields["worker"], fields["gen"], fields["pid"]) if "pid" in fields else {}
    return {**about, "block": block} if block else about
