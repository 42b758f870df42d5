"""Performs the plan's actions: one method an action. What fails becomes an event; what to do about it is decided elsewhere.

Whatever an action raises ends here (`perform`): of a change it becomes the failure of that change, otherwise a line in the log.
Each action that makes several things takes them back when a later one fails, so no descriptor and no child is lost.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from apid import channel, log
from apid.conf.settings import Settings
from apid.errors import ApidError, ConfigError
from apid.parent import events, faults, ownlog, program
from apid.parent.control import Control
from apid.parent.events import Action, Event
from apid.parent.exposures import Exposures
from apid.parent.listeners import Listeners, stored_name
from apid.parent.stacks import Stacks
from apid.posix import processes, systemd
from apid.posix.pidfile import PidFile
from apid.scoreboard import GENERATION, PID, REQUESTS, RETIRED, SLOT, STARTED_NS, Scoreboard

LOG = logging.getLogger("apid.parent")

Load = Callable[[], Settings]
RunWorker = Callable[[channel.Ticket], NoReturn]


class Effects:
    """The hands of the parent: everything it holds that is not a plain value.

    Attributes:
        settings: of each generation that is or may be. channels: our ends, by pid of worker or trial.
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
        board: Scoreboard | None = None,
        generation: int = 1,
    ) -> None:
        self.settings: dict[int, Settings] = {generation: settings} if settings else {}
        self.generation = generation
        self.listeners = listeners
        self.board = board or Scoreboard.create()
        self.channels: dict[int, socket.socket] = {}
        self.rows: dict[int, int] = {}
        self.stacks = Stacks()
        self.control: Control | None = None
        self.pid_file: PidFile | None = None
        self.notifier = notifier
        self.argv = tuple(argv)
        self.directory = directory
        """Where the daemon was started: an upgrade's program begins there."""
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
        self.addresses: dict[int, dict[str, list[str]]] = {generation: _addresses(settings)} if settings else {}
        """Listener names and addresses of each generation; an upgrade carries them over, settings it reads anew."""
        self._bound_for: dict[int, list[str]] = {}
        self._control_for: dict[int, Control] = {}
        self.exposures = Exposures(self.board, self.rows, self.stacks)

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
                return [self._spawn(action)]
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
            case events.Tell():
                self._tell(action.pid, action.message)
            case events.DrainWorker():
                self._drain(action)
            case events.Kill():
                with self.faults.caught("the log of a stack"):
                    self.exposures.collect(float("inf"))
                # the installed program that is tried has a child of its own, which loads the pipelines
                processes.kill(action.pid, action.signum, group=action.pid in self._trials)
            case events.Expose():
                self.exposures.ask(action.pid, action.age, hung=action.hung)
            case _:
                self._housekeep(action)
        return []

    def _housekeep(self, action: Action) -> None:
        match action:
            case events.Discard():
                self._discard(action.generation)
            case events.Unlisten():
                self.listeners.close()
            case events.Retire():
                self._retire(action)
            case events.Reply() if self.control:
                self.control.reply(action.who, action.ok, action.text)
            case events.Say():
                LOG.log(action.level, "%s", action.text, extra=_extra(action.fields, action.detail))
            case events.Announce():
                self._announce(action.what)
            case events.End():
                self.code, self.reason = action.code, action.reason

    # ---- children ----

    def _spawn(self, action: events.Spawn) -> Event:
        if action.generation not in self.settings:  # upgraded, and the configuration cannot be read any more
            return events.SpawnFailed(action.slot, action.generation, "its configuration is gone; mend it and reload")
        row = next((index for index in range(RETIRED - 1) if index not in self.rows.values()), -1)
        if row < 0:
            return events.SpawnFailed(action.slot, action.generation, "every row of the scoreboard is taken")
        try:
            pid = self._fork(action.slot, action.generation, row, trial=False)
        except OSError as error:
            return events.SpawnFailed(action.slot, action.generation, error.strerror or str(error))
        self.rows[pid] = row
        return events.Spawned(pid, action.slot, action.generation, row)

    def _fork(self, slot: int, generation: int, row_index: int, *, trial: bool) -> int:
        settings = self.settings[generation]
        row = self.board.row(row_index)
        row.clear()
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(ours)
            with theirs:
                ours.setblocking(False)
                stacks = self.stacks.new()
                undo.callback(os.close, stacks)
                ticket = channel.Ticket(
                    slot=slot,
                    generation=generation,
                    settings=settings,
                    listeners={listener.name: self.listeners.of(listener) for listener in settings.listeners},
                    channel=theirs,
                    board=self.board,
                    row=row,
                    trial=trial,
                    stacks=stacks,
                )

                def child() -> NoReturn:
                    ours.close()
                    self._let_go()
                    self.listeners.keep([settings])
                    self._run_worker(ticket)

                pid = processes.fork(child)
                undo.pop_all()  # after the fork nothing can fail that would have to be taken back
        self.channels[pid] = ours
        self.stacks.add(pid, stacks)
        row.cells[SLOT], row.cells[GENERATION] = slot, generation
        row.cells[STARTED_NS], row.cells[PID] = time.monotonic_ns(), 0 if trial else pid
        return pid

    def _let_go(self) -> None:
        """In a fresh child: close what is the parent's alone, or a sibling would keep a dead worker's channel open."""
        self.in_child()
        for sock in self.channels.values():
            sock.close()
        for fd in self.stacks.items().values():
            os.close(fd)
        for control in [self.control, *self._control_for.values()]:
            if control is not None:
                control.end(unlink=False)

    def _try(self, generation: int) -> Event:
        try:
            pid = self._fork(0, generation, RETIRED - 1, trial=True)
        except OSError as error:
            return events.Failed(generation, f"cannot fork a trial: {error.strerror}")
        return events.TrialStarted(generation, pid)

    def _try_program(self, generation: int) -> Event:
        try:
            trial = program.Trial.start(self.argv, self.directory)
        except OSError as error:
            return events.Failed(generation, f"cannot start the installed program {self.argv[0]}: {error.strerror}")
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
            mine = self.addresses.get(int(row.cells[GENERATION]), {})
            kept = {address for addresses in self.addresses[self.generation].values() for address in addresses}
            ends = [name for name, addresses in mine.items() if kept.isdisjoint(addresses)]
        self._tell(action.pid, channel.Drain(action.deadline, action.successor, ends))

    def _retire(self, action: events.Retire) -> None:
        self.rows.pop(action.pid, None)
        self.forget(action.pid)
        row = self.board.row(action.row)
        served = int(row.cells[REQUESTS])
        # a crash is most often some request's work: without its name one is left to guess
        flights = row.in_words() if action.cause.startswith(("crash", "exit")) else ""
        self.board.fold(row)
        expected = action.cause in (events.Cause.RELOAD, events.Cause.STOP, events.Cause.SCALE) or not action.reason
        level = logging.INFO if action.cause in _PLANNED else logging.ERROR
        text = f"worker ended: {action.cause}" + ("" if expected else f": {action.reason}")
        text += f" ({served} requests)" + (f"; requests in flight: {flights}" if flights else "")
        LOG.log(level, "%s", text, extra=log.about(action.slot, action.generation, action.pid))
        used = {int(self.board.row(index).cells[GENERATION]) for index in self.rows.values()}
        for generation in [g for g in self.settings if g < self.generation and g not in used]:
            del self.settings[generation]
            self.addresses.pop(generation, None)

    def forget(self, pid: int) -> None:
        """Close what belonged to a child that is gone."""
        sock = self.channels.pop(pid, None)
        try:
            self.stacks.remove(pid)
        finally:
            if sock is not None:
                sock.close()

    # ---- generations ----

    def _prepare(self, generation: int) -> Event:
        try:
            settings = self._load()
            if settings.daemon.workers == 0:
                raise ConfigError(  # noqa: TRY301 - taken back as any other mistake
                    "option workers: 0 (inline) is for a start, not for a reload"
                )
            self._bound_for[generation] = self.listeners.bind(settings)
            path = settings.daemon.control_socket
            if path and (self.control is None or self.control.server is None or self.control.path != path):
                self._control_for[generation] = Control(path)
            addresses = _addresses(settings)
        except BaseException as error:
            self._discard(generation)
            if not isinstance(error, ApidError):
                raise
            return events.Failed(generation, str(error), exit_code=error.exit_code)
        self.settings[generation], self.addresses[generation] = settings, addresses
        return events.Prepared(generation, settings.daemon)

    def _discard(self, generation: int) -> None:
        control = self._control_for.pop(generation, None)
        with contextlib.ExitStack() as both:
            both.callback(self.listeners.close, self._bound_for.pop(generation, []))
            if control is not None:
                both.callback(control.end, unlink=True)

    def _commit(self, generation: int) -> Event:
        """From here there is no way back: each step is performed whatever becomes of the others, and what failed is told."""
        settings = self.settings[generation]
        self.generation = generation
        self._bound_for.pop(generation, None)
        trouble = []
        for step in (self._release, self._take_control, ownlog.set_up, self.write_pid_file):
            try:
                step(settings)
            except ApidError as error:
                trouble.append(str(error))
            except Exception as error:  # noqa: BLE001 - as said above
                self.faults.note(f"the commit of generation {generation}", error)
                trouble.append(faults.describe(error))
        return events.Committed(generation, tuple(trouble))

    def _release(self, settings: Settings) -> None:
        for key in self.listeners.keep([settings]):
            LOG.info("no longer listening on %s", key)
            self.notifier.send("FDSTOREREMOVE=1", f"FDNAME={stored_name(key)}")

    def _take_control(self, settings: Settings) -> None:
        new = self._control_for.pop(self.generation, None)
        if new is not None:
            old, self.control = self.control, new
            if old is not None:
                new.succeed(old)
        elif self.control is not None and not settings.daemon.control_socket:
            self.control.stop_listening()  # who asked for this waits for the verdict

    def write_pid_file(self, settings: Settings) -> None:
        """Write the pid file that the settings want, and remove the one they no longer want.

        Raises:
            ConfigError: it belongs to another process, or cannot be written.
        """
        path = settings.daemon.pid_file
        if self.pid_file is not None and self.pid_file.path != path:
            self.pid_file.remove()
            self.pid_file = None
        if path and self.pid_file is None:
            self.pid_file = PidFile(path)

    # ---- telling ----

    def _announce(self, what: str) -> None:
        if what == "ready":
            self.notifier.send("READY=1")
            for key, sock in self.listeners.items():
                if key.startswith("fd:"):  # its socket unit hands it over again; stored as well it would come twice
                    continue
                self.notifier.send("FDSTORE=1", f"FDNAME={stored_name(key)}", "FDPOLL=0", fds=[sock.fileno()])
        elif what == "reloading":
            self.notifier.send("RELOADING=1", systemd.monotonic_usec())
        else:
            self.notifier.send("STOPPING=1")

    def end(self) -> None:
        """Leave nothing behind; what cannot be removed keeps nothing else."""
        steps: list[Callable[[], object]] = [lambda: self.exposures.collect(float("inf")), self.listeners.close]
        controls = [control for control in (self.control, *self._control_for.values()) if control is not None]
        steps += [functools.partial(control.end, unlink=True) for control in controls]
        steps += [self.pid_file.remove] if self.pid_file is not None else []
        steps += [functools.partial(self.forget, pid) for pid in list(self.channels)]
        for step in steps:
            with self.faults.caught("the end"):
                step()

    def statistics(self) -> dict[str, object]:
        """Where it listens, and how many generations' settings are kept."""
        return {"listeners": self.listeners.statistics(), "generations": sorted(self.settings)}


_PLANNED = (
    events.Cause.RELOAD,
    events.Cause.STOP,
    events.Cause.SCALE,
    events.Cause.RECYCLE,
    events.Cause.RSS,
)


def _addresses(settings: Settings) -> dict[str, list[str]]:
    return {one.name: [str(address) for address in one.addresses] for one in settings.listeners}


def _extra(fields: dict[str, int], block: str) -> dict[str, str]:
    """What a line of the log carries beside its text: the worker it is about, and a block of lines below it."""
    about = log.about(fields["worker"], fields["gen"], fields["pid"]) if "pid" in fields else {}
    return {**about, "block": block} if block else about
