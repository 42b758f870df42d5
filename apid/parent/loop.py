"""The parent's loop: wait, decode, plan, perform. Everything that can happen becomes an event of one kind, in one order.

No source of events can starve another: a turn takes a bounded number of messages, signals, connections and commands of each.

Order within a turn: what children said before their exits (a worker that says why it cannot boot dies right after), exits
before signals and commands, time last. With nothing due the parent sleeps in one epoll_wait; while workers serve it wakes once
a second to look at their beats.
"""

from __future__ import annotations

import itertools
import selectors
import signal
import socket
import time
from collections import deque

import setproctitle

from apid import channel
from apid.bulletin import Bulletin
from apid.loggers import logger
from apid.parent import events, report, upgrade
from apid.parent.control import ACCEPTS_A_TURN, Client, Control, Request
from apid.parent.effects import Effects
from apid.parent.events import Event
from apid.parent.lifecycle import Stage
from apid.parent.phases import ONCE_IS_ENOUGH, SIGNALS, Command, ending
from apid.parent.plan import Plan
from apid.parent.watch import Watch
from apid.posix import processes, signals
from apid.scoreboard import BEAT_NS

LOG = logger("apid.parent")

MESSAGES_A_TURN = 16
"""Of one child. A worker says a few words in its life; one that floods the parent waits like everybody else."""

MESSAGES_AT_ITS_END = 1000
"""Of a child that has exited: more than its socket buffer holds."""


class Loop:
    """Runs a plan with its effects until the daemon ends."""

    def __init__(self, plan: Plan, effects: Effects) -> None:
        self.plan = plan
        self.effects = effects
        self._watch = Watch()
        self._selector = selectors.DefaultSelector()
        self._bell = signals.SignalSocket(processes.SIGNALS_OF_THE_PARENT)
        self._selector.register(self._bell, selectors.EVENT_READ, "bell")
        self._watched: dict[int, socket.socket] = {}
        self._server: socket.socket | None = None
        self._interest: dict[int, tuple[socket.socket, int]] = {}
        self._watchdog_at = 0.0
        self._status = ""
        self._bulletin = Bulletin(effects.board.bulletin)
        self._heard_out: set[int] = set()
        """Children whose channel is at its end: nothing to poll, though they may not have exited yet."""
        effects.in_child = self._in_child
        self._becoming = 0
        """Generation for which this process is about to become the installed program; 0: it is not."""
        effects.become = self._become

    def run(self, happened: list[Event] | None = None) -> int:
        """Serve until the end; returns the exit code. `happened` is news from before the loop (an upgrade's)."""
        signals.unblock_all()
        self._turn([*(happened or ()), events.Tick()])
        while self.effects.code is None:
            self._turn(self._wait())
        self.effects.end()
        self._selector.close()
        self._bell.close()
        return self.effects.code

    # ---- one turn ----

    def _turn(self, happened: list[Event]) -> None:
        queue = deque(happened)
        while queue and self.effects.code is None:
            outcomes: list[Event] = []
            for action in self.plan.handle(queue.popleft(), time.monotonic()):
                outcomes += self.effects.perform(action)
            # What came of it is known before anything else is looked at: a fork is never news to a plan that has moved on.
            queue.extendleft(reversed(outcomes))
        if self._becoming:
            self._become_now()
        self._sync()

    def _wait(self) -> list[Event]:
        timeout = self._timeout()
        ready = self._selector.select(timeout)
        said: list[Event] = []
        exits: list[Event] = []
        asked: list[Event] = []
        for key, mask in ready:
            if key.data == "bell":
                exits, asked = self._signals(asked)
            elif key.data == "control":
                self._accept()
            elif isinstance(key.data, Client):
                self._client(key.data, mask)
            else:
                said += self._hear(key.data, MESSAGES_A_TURN)
        return [*said, *self._last_words(exits), *asked, *self._commands(), *self._look(), events.Tick()]

    def _last_words(self, exits: list[Event]) -> list[Event]:
        """Exits, after what the children said: it may have arrived after the poll and before the exit."""
        said: list[Event] = []
        for event in exits:
            if isinstance(event, events.Exited):
                said += self._hear(event.pid, MESSAGES_AT_ITS_END)
                said += self.effects.trial_over(event.pid, event.code)
                if event.pid not in self.plan.state.children:
                    self.effects.forget(event.pid)  # a trial; a worker's things go when it is retired
        return said + exits

    def _timeout(self) -> float | None:
        now = time.monotonic()
        control = self.effects.holdings.control
        times = [self.plan.deadline(now), self.effects.exposures_due(), control.due() if control else None]
        if any(child.stage in (Stage.READY, Stage.DRAINING) for child in self.plan.state.children):
            times.append(self._watch.due)
        if self.effects.notifier.watchdog:
            times.append(self._watchdog_at)
        due = [at for at in times if at is not None]
        return max(0.0, min(due) - now) + 0.001 if due else None

    def _signals(self, asked: list[Event]) -> tuple[list[Event], list[Event]]:
        exits: list[Event] = []
        received = [signum for signum in self._bell.read() if signum != signal.SIGCHLD]
        for before, signum in itertools.pairwise([0, *received]):
            if signum != before or signum not in ONCE_IS_ENOUGH:
                LOG.info("received %s", signals.name(signum))
                asked.append(events.Asked(SIGNALS[signum]))
        exits += [events.Exited(pid, code, self.effects.in_flight(pid)) for pid, code in processes.reap()]
        return exits, asked

    def _hear(self, pid: int, most: int) -> list[Event]:
        """The messages that a child has sent; what is left comes in the next turn."""
        sock = self.effects.channels.get(pid)
        heard: list[Event] = []
        for _ in range(most):
            if sock is None:
                break
            try:
                packet = sock.recv(channel.MAX_MESSAGE + 1)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._unwatch(pid)
                break
            try:
                heard.append(events.Said(pid, channel.decode(packet)))
            except channel.ChannelError as error:
                LOG.error("%s", error, extra={"pid": pid})  # noqa: TRY400 - a traceback would say nothing more
        return heard

    # ---- beats, watchdog, status ----

    def _look(self) -> list[Event]:
        now = time.monotonic()
        self.effects.collect(now)
        if now < self._watch.due:
            return self._notify(now)
        beats: dict[int, float] = {}
        for child in self.plan.state.children:
            if child.stage in (Stage.READY, Stage.DRAINING):
                beats[child.pid] = self.effects.board.row(child.row).cells[BEAT_NS] / 1e9
        found: list[Event] = []
        for finding in self._watch.look(now, beats, self.plan.state.daemon.worker_timeout):
            if finding.silent:
                found.append(events.Silent(finding.pid, finding.age, finding.hung))
            else:
                found.append(events.Beating(finding.pid))
        return found + self._notify(now)

    def _notify(self, now: float) -> list[Event]:
        notifier = self.effects.notifier
        if notifier.watchdog and now >= self._watchdog_at:
            # Honest: the loop turns, and unless nobody is meant to serve, somebody does.
            children = [child for child in self.plan.state.children if child.stage is Stage.READY]
            well = not children or any(not child.stalled for child in children)
            if well:
                notifier.send("WATCHDOG=1")
            self._watchdog_at = now + notifier.watchdog / 3
        if notifier.address and ending(self.plan.state.phase):
            notifier.send("EXTEND_TIMEOUT_USEC=5000000")
        return []

    def _sync(self) -> None:
        """Poll exactly what there is: channels, the control socket, its clients."""
        channels = self.effects.channels
        for pid in [pid for pid, sock in self._watched.items() if channels.get(pid) is not sock]:
            self._unwatch(pid)
        for pid, sock in channels.items():
            if pid not in self._watched and sock.fileno() >= 0 and pid not in self._heard_out:
                self._selector.register(sock, selectors.EVENT_READ, pid)
                self._watched[pid] = sock
        self._heard_out &= set(channels)
        self._sync_control(self.effects.holdings.control, time.monotonic())
        facts = report.facts(self.plan.state, self.effects, time.monotonic())
        self._bulletin.publish(facts)
        line = facts["line"]
        if line != self._status:
            self._status = line
            self.effects.notifier.send(f"STATUS={line}")
            setproctitle.setproctitle(f"apid: parent ({line})")

    def _sync_control(self, control: Control | None, now: float) -> None:
        server = control.server if control and control.accepting(now) else None
        if server is not self._server:
            if self._server is not None:
                self._forget(self._server)
            if server is not None:
                self._selector.register(server, selectors.EVENT_READ, "control")
            self._server = server
        wanted = {c.number: (c, control.interest(c)) for c in control.clients()} if control else {}
        for number, (sock, _) in list(self._interest.items()):
            if number not in wanted:
                self._forget(sock)
                del self._interest[number]
        for number, (client, interest) in wanted.items():
            sock, before = self._interest.get(number, (client.sock, 0))
            if control and client.done:
                self._forget(sock) if before else None
                control.close(client)
                self._interest.pop(number, None)
                continue
            if interest == before:
                continue
            if before and interest:
                self._selector.modify(sock, interest, client)
            elif interest:
                self._selector.register(sock, interest, client)
            else:
                self._forget(sock)
            self._interest[number] = (sock, interest)

    def _unwatch(self, pid: int) -> None:
        sock = self._watched.pop(pid, None)
        self._heard_out.add(pid)
        if sock is not None:
            self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        """Stop polling a socket that may be closed already (the selector finds it by object then)."""
        try:
            self._selector.unregister(sock)
        except (KeyError, ValueError):
            return

    # ---- the control socket ----

    def _accept(self) -> None:
        control = self.effects.holdings.control
        for _ in range(ACCEPTS_A_TURN):
            client = control.accept(time.monotonic()) if control is not None else None
            if control is None or client is None:
                break
            control.read(client)

    def _client(self, client: Client, mask: int) -> None:
        control = self.effects.holdings.control
        if control is None:
            return
        if mask & selectors.EVENT_WRITE:
            control.flush(client)
        if mask & selectors.EVENT_READ:
            control.read(client)

    def _commands(self) -> list[Event]:
        control = self.effects.holdings.control
        if control is None:
            return []
        control.tick(time.monotonic())
        return [event for request in control.requests() if (event := self._command(control, request))]

    def _command(self, control: Control, request: Request) -> Event | None:
        if request.command == "status":
            data = report.status(self.plan.state, self.effects, time.monotonic(), max(0, request.number))
            control.reply(request.who, True, data["line"], data)
            return None
        try:
            command = Command(request.command)
        except ValueError:
            known = ", ".join(sorted([*Command, "status"]))
            control.reply(request.who, False, f"there is no command {request.command!r}; there are: {known}")
            return None
        LOG.info("apidctl: %s%s", command, f" {request.number}" if command is Command.SCALE else "")
        return events.Asked(command, request.who, request.number)

    # ---- forks and execs ----

    def _in_child(self) -> None:
        self._selector.close()
        self._bell.forget()

    def _become(self, generation: int) -> None:
        """Note it: the exec comes when nothing that this image has read is left to be handled, or it would be forgotten."""
        self._becoming = generation

    def _become_now(self) -> None:
        """Exec. Signals are blocked first: what comes from now on waits for the new image, what came before is handled here."""
        generation, self._becoming = self._becoming, 0
        change = self.plan.state.change
        if self.effects.code is not None or change is None or change.generation != generation or not change.tried:
            return  # taken back meanwhile
        signals.block_all()
        exits, asked = self._signals([])
        if not exits and not asked:
            reason = upgrade.become(self.plan.state, self.effects)
            asked = [events.Failed(generation, f"cannot become the installed program: {reason}")]
        else:
            self._becoming = generation
        signals.unblock_all()
        self._turn([*self._last_words(exits), *asked])
