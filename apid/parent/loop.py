"""The parent's loop: wait, decode, plan, perform. Everything that can happen becomes an event of one kind, in one order.

No source of events can starve another: a turn takes a bounded number of messages, signals, exits, connections and commands.

Order within a turn: what children said before their exits (a worker that says why it cannot boot dies right after), exits
before signals and commands, time last. With nothing due the parent sleeps in one epoll_wait; while workers serve it wakes once
a second to look at their beats.

Whatever is raised in a turn costs the piece of it in which it was raised, and the loop goes on; after a faulty turn it rests, and
only signals wake it. A loop that can neither wait nor plan for MOST_FAULTS turns in a row cannot supervise: the workers drain.
"""

from __future__ import annotations

import itertools
import math
import select
import selectors
import signal
import socket
import time
from collections import deque

from apid import channel
from apid.channel import Sender
from apid.errors import ExitCode
from apid.loggers import logger
from apid.parent import events, faults, upgrade
from apid.parent.births import Birth
from apid.parent.commands import SERVER, Commands, forget
from apid.parent.control import Client
from apid.parent.effects import Effects
from apid.parent.events import Action, Asked, Event
from apid.parent.lifecycle import Stage
from apid.parent.phases import ONCE_IS_ENOUGH, SIGNALS
from apid.parent.plan import Plan
from apid.parent.telling import Telling
from apid.parent.watch import Watch
from apid.posix import processes, signals
from apid.scoreboard import BEAT_NS, PID

LOG = logger("apid.parent")

MESSAGES_A_TURN = 16
"""Of one child. A worker says a few words in its life; one that floods the parent waits like everybody else."""

MESSAGES_AT_ITS_END = 1000
"""Of a child that has exited: more than its socket buffer holds."""

EXITS_A_TURN = 1000
"""Of children, of which there are fewer, and of orphans, of which an application may leave any number."""

WARNINGS = 100
"""Different warnings of pipelines that are logged; a worker may send any number."""

MOST_FAULTS = 30
"""Turns in a row in which the loop could not wait or the plan could not decide, some 20 seconds, after which it gives up."""


class Loop:
    """Runs a plan with its effects until the daemon ends."""

    def __init__(self, plan: Plan, effects: Effects) -> None:
        self.plan = plan
        self.effects = effects
        self._watch = Watch()
        self._selector = selectors.DefaultSelector()
        self._bell = signals.SignalPipe(processes.SIGNALS_OF_THE_PARENT)
        self._selector.register(self._bell, selectors.EVENT_READ, "bell")
        self._watched: dict[int, socket.socket] = {}
        self._commands = Commands(self._selector, effects)
        self._telling = Telling(effects)
        self._faults = effects.faults
        self._lost = 0
        """Turns in a row without supervision: the loop could not wait, or the plan not decide."""
        self._reap_again = False
        """A fault may have cost the end of a child."""
        self._news: list[Event] = [events.Tick()]
        self._warned: set[str] = set()
        self._heard_out: set[int] = set()
        """Children whose channel is at its end: nothing to poll, though they may not have exited yet."""
        self._ordered: set[Birth] = set()
        """What is polled of `effects.births.unborn`."""
        self._violators: set[int] = set()
        """Children that violated the protocol: they are being killed, and nothing else is read from them."""
        effects.in_child = self._in_child
        self._becoming = 0
        """Generation for which this process is about to become the installed program; 0: it is not."""
        effects.become = self._become

    def run(self, happened: list[Event] | None = None) -> int:
        """Serve until the end; returns the exit code. `happened` is news from before the loop (an upgrade's)."""
        signals.unblock_all()
        self._news = [*(happened or ()), events.Tick()]
        while self.effects.code is None and self._lost < MOST_FAULTS:
            self.step()
        return self.end()

    def step(self) -> None:
        """One turn, and the wait for what the next one handles."""
        lost = self._lost
        with self._faults.caught("a turn of the loop"):
            self._turn(self._news)
        self._news = []
        if self.effects.code is None:
            self._rest(self._faults.pause())
            self._news = self._wait()
        if self._lost == lost:
            self._lost = 0

    def end(self) -> int:
        """Leave nothing behind; returns the exit code."""
        if self.effects.code is None:
            LOG.critical("the parent cannot supervise any more: the workers drain, and the daemon ends")
            with self._faults.caught("the end"):
                self.effects.listeners.close()
                processes.let_children_drain(self.plan.state.daemon.graceful_shutdown_timeout or math.inf)
        self.effects.end()
        self._selector.close()
        self._bell.close()
        return ExitCode.BUG if self.effects.code is None else self.effects.code

    def _rest(self, seconds: float) -> None:
        """After a faulty turn: whatever caused it must not make the loop spin. Signals are heard at once."""
        if seconds:
            self._reap_again = True
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            poll.poll(seconds * 1000)

    # ---- one turn ----

    def _turn(self, happened: list[Event]) -> None:
        queue = deque(happened)
        while queue and self.effects.code is None:
            event = queue.popleft()
            outcomes: list[Event] = []
            for action in self._decide(event):
                outcomes += self.effects.perform(action)
            # What came of it is known before anything else is looked at: a fork is never news to a plan that has moved on.
            queue.extendleft(reversed(outcomes))
        self.effects.reaped.clear()
        if self._becoming:
            self._become_now()
        for duty in (self._sync, self._commands.sync, lambda: self._telling.publish(self.plan.state)):
            with self._faults.caught("a turn of the loop"):
                duty()

    def _decide(self, event: Event) -> list[Action]:
        """What the plan wants done. A plan that raises fails the change under way, if there is one, and its requester."""
        try:
            return self.plan.handle(event, time.monotonic())
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent goes on
            self._lost += 1
            self._faults.note(f"the plan at {type(event).__name__}", error)
            reason = f"a fault of apid: {faults.describe(error)}"
            change = self.plan.state.change
            if change is not None and not isinstance(event, events.Failed):
                return self._decide(events.Failed(change.generation, reason))
            return (
                [events.Reply(event.who, False, reason)] if isinstance(event, Asked) and event.who is not None else []
            )

    def _wait(self) -> list[Event]:
        said: list[Event] = []
        exits: list[Event] = []
        asked: list[Event] = []
        try:
            ready = self._selector.select(self._timeout())
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent goes on
            self._lost += 1
            self._faults.note("waiting", error)
            ready = []
        for key, mask in ready:
            with self._faults.caught("an event of the loop"):
                if key.data == SERVER or isinstance(key.data, Client):
                    self._commands.handle(key.data, mask)
                elif isinstance(key.data, Birth):
                    said += self._deliver([key.data])
                elif key.data != "bell":
                    said += self._hear(key.data, MESSAGES_A_TURN)
        with self._faults.caught("the signals"):
            again, self._reap_again = self._reap_again, False
            if again or any(key.data == "bell" for key, _ in ready):
                self._signals(exits, asked)
        news = [*said, *self._last_words(exits), *asked]
        with self._faults.caught("the commands"):
            news += self._commands.take(self.plan.state)
        with self._faults.caught("the watch over the workers"):
            news += self._look()
        with self._faults.caught("the service manager"):
            self._telling.beat(self.plan.state, time.monotonic())
        return [*news, events.Tick()]

    def _last_words(self, exits: list[Event]) -> list[Event]:
        """Exits, after what the children said: it may have arrived after the poll and before the exit."""
        # a worker may have ended right after it was born
        overdue = (self.effects.births.due() or math.inf) <= time.monotonic()
        said: list[Event] = self._deliver(list(self.effects.births.unborn)) if exits or overdue else []
        for event in exits:
            with self._faults.caught("the end of a child"):
                if isinstance(event, events.Exited):
                    said += self._hear(event.pid, MESSAGES_AT_ITS_END)
                    said += self.effects.trial_over(event.pid, event.code)
                    if event.pid not in self.plan.state.children:
                        # a trial or a mold; what belongs to a worker goes when it is retired
                        self.effects.births.forget(event.pid)
        return said + exits

    def _timeout(self) -> float | None:
        now = time.monotonic()
        times = [self.plan.deadline(now), self.effects.exposures.due(), self._telling.due(), self._commands.due()]
        times += [self.effects.births.due(), now if self._reap_again else None]
        if any(child.stage in (Stage.READY, Stage.DRAINING) for child in self.plan.state.children):
            times.append(self._watch.due)
        due = [at for at in times if at is not None]
        return max(0.0, min(due) - now) + 0.001 if due else None

    def _signals(self, exits: list[Event], asked: list[Event]) -> None:
        """Add what they mean to the two lists: nothing is lost when one of them cannot be handled."""
        received = [signum for signum in self._bell.read() if signum != signal.SIGCHLD]
        for before, signum in itertools.pairwise([0, *received]):
            if signum != before or signum not in ONCE_IS_ENOUGH:
                LOG.info("received %s", signals.name(signum))
                asked.append(events.Asked(SIGNALS[signum]))
        for pid, code in itertools.islice(processes.reap(), EXITS_A_TURN):
            self._reap_again = len(exits) + 1 == EXITS_A_TURN
            if code is None:
                exits.append(events.Violation(pid, "it has made the parent its tracer, and is stopped"))
                continue
            self.effects.reaped.add(pid)
            lost: tuple[str, ...] = ()
            with self._faults.caught("the requests of a child that has ended"):
                lost = self.effects.in_flight(pid)
            exits.append(events.Exited(pid, code, lost))

    def _hear(self, pid: int, most: int) -> list[Event]:
        """The messages that a child has sent; what is left comes in the next turn."""
        sock = self.effects.channels.get(pid) if pid not in self._violators else None
        change = self.plan.state.change
        loads = pid in self.plan.state.molds or (change is not None and change.trial == pid)
        sender = Sender.TRIAL if loads else Sender.WORKER
        heard: list[Event] = []
        for _ in range(most):
            if sock is None:
                break
            try:
                packet = receive(sock)
            except EOFError:
                self._unwatch(pid)
                break
            if packet is None:
                break
            try:
                message = channel.decode(packet, sender)
                heard.append(events.Said(pid, message))
                if isinstance(message, channel.Ready):
                    self._warn(message.warnings)
            except channel.ChannelError as error:
                self._violators.add(pid)
                self._unwatch(pid)
                heard.append(events.Violation(pid, str(error)))
                break
        return heard

    def _deliver(self, births: list[Birth]) -> list[Event]:
        """What has become of workers that molds were ordered to fork."""
        found: list[Event] = []
        for birth in births:
            with self._faults.caught("the birth of a worker"):
                forget(self._selector, birth.sock)
                self._ordered.discard(birth)
                event = self.effects.births.hear(birth, self.effects.reaped)
                if event is not None:
                    found.append(event)
        return found

    def _warn(self, warnings: list[str]) -> None:
        """Log what workers say of their pipelines: each text once, however many workers and generations say it."""
        for warning in warnings:
            if warning not in self._warned and len(self._warned) < WARNINGS:
                self._warned.add(warning)
                LOG.warning("%s", warning)

    # ---- beats, and what is polled ----

    def _look(self) -> list[Event]:
        now = time.monotonic()
        with self._faults.caught("the log of a stack"):
            self.effects.exposures.collect(now)
        if now < self._watch.due:
            return []
        with self._faults.caught("the look at the memory of a mold"):
            self.effects.memory.look(
                [mold.pid for mold in self.plan.state.molds.values() if mold.ready and not mold.killed]
            )
        beats: dict[int, float] = {}
        for child in self.plan.state.children:
            row = self.effects.board.row(child.row)
            # another one: it beats into a scoreboard that an upgrade lost
            if row.seat[PID] == child.pid and child.stage in (Stage.READY, Stage.DRAINING):
                beats[child.pid] = row.cells[BEAT_NS] / 1e9
        found: list[Event] = []
        for finding in self._watch.look(now, beats, self.plan.state.daemon.worker_timeout):
            if finding.silent:
                found.append(events.Silent(finding.pid, finding.age, finding.hung))
            else:
                found.append(events.Beating(finding.pid))
        return found

    def _sync(self) -> None:
        """Poll exactly the channels that there are."""
        channels = self.effects.channels
        for pid in [pid for pid, sock in self._watched.items() if channels.get(pid) is not sock]:
            self._unwatch(pid)
        for pid, sock in channels.items():
            if pid not in self._watched and sock.fileno() >= 0 and pid not in self._heard_out:
                self._selector.register(sock, selectors.EVENT_READ, pid)
                self._watched[pid] = sock
        for birth in self.effects.births.unborn:
            if birth not in self._ordered:
                self._selector.register(birth.sock, selectors.EVENT_READ, birth)
                self._ordered.add(birth)
        self._heard_out &= set(channels)
        self._violators &= set(channels)

    def _unwatch(self, pid: int) -> None:
        sock = self._watched.pop(pid, None)
        self._heard_out.add(pid)
        if sock is not None:
            forget(self._selector, sock)

    # ---- forks and execs ----

    def _in_child(self) -> None:
        self._selector.close()
        self._bell.forget()

    def _become(self, generation: int) -> None:
        """Note it: the exec comes when nothing that this image has read is left to be handled, or it would be forgotten."""
        self._becoming = generation

    def _become_now(self) -> None:
        """Exec. Signals are blocked first: what comes from now on waits for the new image, what came before is handled here."""
        if self.effects.births.unborn and self.effects.code is None:
            return  # its pid would be lost
        generation, self._becoming = self._becoming, 0
        change = self.plan.state.change
        if self.effects.code is not None or change is None or change.generation != generation or not change.tried:
            return  # taken back meanwhile
        exits: list[Event] = []
        asked: list[Event] = []
        signals.block_all()
        try:
            self._signals(exits, asked)
            if not exits and not asked:
                reason = upgrade.become(self.plan.state, self.effects)
                asked += [events.Failed(generation, f"cannot become the installed program: {reason}")]
            else:
                self._becoming = generation
        except Exception as error:  # noqa: BLE001 - it becomes the failure of the upgrade
            asked += faults.outcome(events.Exec(generation), error)
            self._reap_again = True
        finally:
            signals.unblock_all()
        self._turn([*self._last_words(exits), *asked])


def receive(sock: socket.socket) -> bytes | None:
    """Return the next packet of a channel, which may be empty; None when none has come.

    Raises:
        EOFError: the other side is closed, and all that it sent has been read.
    """
    try:
        try:
            packet = sock.recv(channel.MAX_MESSAGE + 1)
        except ConnectionResetError:  # once, where the other side has left packets unread; its own come after that
            packet = sock.recv(channel.MAX_MESSAGE + 1)
    except BlockingIOError:
        return None
    except OSError as error:
        raise EOFError from error
    if not packet:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        if poll.poll(0):
            raise EOFError
    return packet
