"""A kernel that is not there: pids, children that boot, serve, fail and end, forks that fail, and a clock that a test turns.

It performs the plan's actions as `effects` does and feeds back what came of them in the order in which the loop does. What no
kernel would let happen, or what apid promises never to do, is an assertion here.
"""

from __future__ import annotations

import dataclasses
import json
import signal
from collections import Counter, deque

from apid import channel
from apid.conf.settings import Daemon
from apid.parent import change_steps, events, handover
from apid.parent.children import Child
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase, ending
from apid.parent.plan import Plan

TRIAL, MOLD = "trial", "mold"


@dataclasses.dataclass
class Process:
    """A child of the parent, as the kernel has it."""

    pid: int
    slot: int = -1
    generation: int = 0
    kind: str = "worker"
    ready: bool = False
    draining: bool = False
    stuck: bool = False
    """It does not hear SIGQUIT."""
    flights: int = 0
    """Requests in flight; they are lost where it ends without having said what became of them."""
    accounted: bool = False
    attempt: int = 0
    """Which of all changes it was forked in."""
    code: str = ""  # what it has loaded, or its mold
    ended: int | None = None
    """Exit code of one that nobody has waited for yet."""


class Kernel:
    """The world around one plan."""

    def __init__(self, workers: int, **options: float) -> None:
        self.now = 1000.0
        self.daemon = Daemon(workers=workers, **{"preload": "off", **options})
        self.plan = Plan.new(self.daemon, self.now)
        self.processes: dict[int, Process] = {}
        self.gone: set[int] = set()
        self.inbox: list[events.Event] = []
        self.exits: list[events.Event] = []
        self.forks_that_fail = 0
        self.prepare_fails = self.try_fails = self.exec_fails = self.commit_fails = False
        self.asked: Counter[int] = Counter()
        self.replies: dict[int, list[events.Reply]] = {}
        self.code: int | None = None
        self.images = 1
        self.rows: set[int] = set()
        self.log: list[object] = []
        self.began: list[float] = []
        self.becoming = 0
        self.next_pid = 100
        self.committed = 1
        self.listening = True
        self.leaving = False
        self.queue = 0
        self.disk = "app.1111"  # the code that is installed
        self.unborn: list[events.Spawn] = []
        self.attempts: dict[int, int] = {}
        self.lost = 0
        self.attempt = 0
        self.unlisten_fails = False
        self.turn()

    # ---- what happens ----

    @property
    def state(self):
        """The plan's."""
        return self.plan.state

    def workers(self, **wanted) -> list[Process]:
        """The living workers with these attributes."""
        return [
            one
            for one in self.processes.values()
            if one.kind == "worker" and one.ended is None and all(getattr(one, k) == v for k, v in wanted.items())
        ]

    def ask(self, command: Command, who: int | None = None, number: int = 0) -> None:
        """A signal, or a control command by a new asker."""
        if self.code is not None:
            return
        if who is not None:
            self.asked[who] += 1
        self.inbox.append(events.Asked(command, who, number))

    def say(self, pid: int, message: channel.Message) -> None:
        """A child speaks."""
        if isinstance(message, channel.DrainDone):
            process = self.processes[pid]
            process.accounted, process.flights = True, 0
            self.lost += len(message.cut) + message.more if ending(self.state.phase) else 0
        self.exits.append(events.Said(pid, message))

    def end(self, process: Process, code: int) -> None:
        """A child ends; the parent is told at its next turn."""
        assert process.ended is None
        process.ended = code
        lost = () if process.accounted else tuple(f"GET /{number} 1.0 s" for number in range(process.flights))
        self.exits.append(events.Exited(process.pid, code, lost))

    def load(self, mold: Process, *, stays: bool = True, code: str = "") -> None:
        """A mold has loaded its application."""
        mold.ready, mold.code = True, code or self.disk
        unsafe = [] if stays else ["a native thread"]
        self.exits.append(
            events.Said(mold.pid, channel.Ready(stays=stays, code=mold.code if stays else "", unsafe=unsafe))
        )
        if not stays:
            self.end(mold, 0)

    def bear(self, order: events.Spawn) -> None:
        """A mold has forked a worker, which speaks; the mold may be gone by now."""
        self.unborn.remove(order)
        mold = self.processes.get(order.mold)
        pid, row = self.pid(), min(set(range(600)) - self.rows)
        self.rows.add(row)
        attempt = self.attempts.get(order.mold, 0)
        self.processes[pid] = Process(
            pid, order.slot, order.generation, attempt=attempt, code=mold.code if mold else ""
        )
        self.exits.append(events.Spawned(pid, order.slot, order.generation, row, order.mold, 0.02))

    def miscarry(self, order: events.Spawn) -> None:
        self.unborn.remove(order)
        self.exits.append(events.SpawnFailed(order.slot, order.generation, "no memory", order.mold))

    def turn(self) -> list[events.Action]:
        """One turn of the loop: what children said and their exits, then what was asked, then time."""
        happened = [*self.exits, *self.inbox, events.Tick()]
        self.exits, self.inbox = [], []
        done: list[events.Action] = []
        queue = deque(happened)
        while queue and self.code is None:
            event = queue.popleft()
            if isinstance(event, events.Exited):
                self.lost += len(event.lost) if ending(self.state.phase) else 0
                self.gone.add(event.pid)
                self.processes.pop(event.pid)
            self.log.append(event)
            outcomes: list[events.Event] = []
            for action in self.plan.handle(event, self.now):
                self.log.append(action)
                done.append(action)
                outcomes += self.perform(action)
            queue.extendleft(reversed(outcomes))
        for event in queue:
            if isinstance(event, events.Asked) and event.who is not None:
                self.asked[event.who] -= 1  # it came too late: its connection is closed
        self.check()
        if self.becoming and self.code is None and not self.unborn:
            generation, self.becoming = self.becoming, 0
            change = self.state.change
            if change is not None and change.generation == generation and change.tried:
                self.inbox = [*self.become(generation), *self.inbox]
                done += self.turn()
        return done

    def tick(self, seconds: float) -> list[events.Action]:
        """Let time pass, no further than to what is due."""
        self.now += seconds
        return self.turn()

    def become(self, generation: int) -> list[events.Event]:
        """Exec: only the document is left of the plan."""
        if self.exec_fails:
            return [events.Failed(generation, "cannot become the installed program")]
        self.plan = Plan(handover.unpack(json.loads(json.dumps(handover.pack(self.state)))))
        self.images += 1
        return self.perform(events.Prepare(generation))

    # ---- what is done ----

    def perform(self, action: events.Action) -> list[events.Event]:  # noqa: C901 - one case an action
        """As `effects.perform`."""
        match action:
            case events.Spawn():
                return self.fork(action)
            case events.Cast():
                self.began.append(self.now)
                if self.try_fails:
                    return [events.CastFailed(action.generation, "no memory")]
                pid = self.pid()
                self.attempts[pid] = self.attempt
                self.processes[pid] = Process(pid, kind=MOLD, generation=action.generation)
                return [events.MoldStarted(action.generation, pid)]
            case events.Prepare():
                self.attempt += 1
                if self.prepare_fails:
                    return [events.Failed(action.generation, "the configuration is wrong")]
                return [events.Prepared(action.generation, self.daemon)]
            case events.Try() | events.TryProgram():
                self.began.append(self.now)
                if self.try_fails:
                    return [events.Failed(action.generation, "cannot fork a trial")]
                pid = self.pid()
                self.processes[pid] = Process(pid, kind=TRIAL, generation=action.generation)
                return [events.TrialStarted(action.generation, pid)]
            case events.Exec():
                self.becoming = action.generation
            case events.ReopenLogs():
                return [events.LogsReopened()]
            case events.Tell():
                self.alive(action.pid)
            case events.DrainWorker():
                self.drain(action)
            case events.Kill():
                self.kill(action)
            case events.Expose():
                self.alive(action.pid)
            case events.Retire():
                assert action.pid in self.gone
                self.rows.remove(action.row)
            case events.Commit():
                assert action.generation == self.committed + 1, "numbers of generations that serve are consecutive"
                self.committed = action.generation
                members = [self.processes[c.pid] for c in self.state.children.of(action.generation)]
                assert {one.attempt for one in members} == {self.attempt}, "a worker of a failed change has joined"
                ready = [c.ready for c in self.state.children.of(action.generation, stage=Stage.READY)]
                assert self.now >= max(ready) + change_steps.WATCH, "committed before it has proven itself"
                # as far as the parent can know: a worker may die between its Ready and this line
                serving = {c.slot for c in self.state.children.of(action.generation) if self.serves(c)}
                assert serving == set(range(self.state.wanted)), "committed with other seats than the wanted ones"
                return [events.Committed(("the pid file is lost",) if self.commit_fails else ())]
            case events.Discard():
                assert action.generation != self.committed
            case events.LookAtQueues():
                return [events.Queued(self.queue)]
            case events.Unlisten():
                return self.unlisten(action)
            case events.Leave():
                self.leaving = action.leaving
            case events.Reply():
                self.replies.setdefault(action.who, []).append(action)
                assert len(self.replies[action.who]) <= self.asked[action.who], f"{action.who} was answered twice"
            case events.End():
                # a trial that was sent SIGKILL need not be waited for
                left = [one for one in self.processes.values() if one.ended is None or one.kind != TRIAL]
                assert not left, "the parent ends before its children"
                assert action.code or not self.lost, f"exit 0 after {self.lost} requests were lost"
                self.code = action.code
        return []

    def unlisten(self, action: events.Unlisten) -> list[events.Event]:
        """Close the listeners: what waits there is lost unless a worker answers it."""
        # those that this stop tells to drain, which they have not heard yet, empty the queues first
        last = [c for c in self.state.children if c.stage is Stage.DRAINING and not self.processes[c.pid].draining]
        answering = self.state.phase is not Phase.HALTING and bool(last)
        lost = self.queue if self.listening and not answering else 0
        self.listening = False
        assert action.abandon == (not answering)
        if lost and self.state.phase is Phase.STOPPING:
            assert self.rescue_failed, "a stop does not try to answer what is queued"
        if self.unlisten_fails:
            return []
        self.lost += lost
        return [events.Abandoned(lost)] if action.abandon else []

    @property
    def rescue_failed(self) -> bool:
        """Whether workers were raised for what is queued, and one of them failed or the time was over."""
        return self.state.waiting is not None

    def pid(self) -> int:
        self.next_pid += 1
        return self.next_pid

    def alive(self, pid: int) -> Process:
        assert pid not in self.gone, f"an action on process {pid}, which is gone"
        return self.processes[pid]

    def fork(self, action: events.Spawn) -> list[events.Event]:
        assert not ending(self.state.phase) or self.state.phase is Phase.LEAVING, "a fork while stopping"
        assert self.listening
        assert not self.state.holders(action.generation, action.slot), f"two workers in seat {action.slot}"
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return [events.SpawnFailed(action.slot, action.generation, "Resource temporarily unavailable", action.mold)]
        if action.mold:
            mold = self.alive(action.mold)
            if mold.ended is not None:  # the parent has closed its channel already
                return [events.SpawnFailed(action.slot, action.generation, "it has ended", action.mold, gone=True)]
            assert mold.ready
            assert mold.generation == action.generation
            assert mold.pid not in [one.mold for one in self.unborn], "two orders at once"
            self.unborn.append(action)
            self.room()
            return []
        pid, row = self.pid(), min(set(range(600)) - self.rows)
        self.rows.add(row)
        self.processes[pid] = Process(pid, action.slot, action.generation, attempt=self.attempt)
        self.room()
        return [events.Spawned(pid, action.slot, action.generation, row)]

    def room(self) -> None:
        """After each fork."""
        change = self.state.change
        wanted = max(self.state.wanted, change.wanted if change else 0)
        counted = [c for c in self.state.children if c.serving or c.cause != events.Cause.SCALE]
        leaving = sum(not c.serving for c in counted)
        surplus = self.state.surplus()
        known = [c for c in counted if c.pid in self.processes]
        alive = {pid for pid, process in self.processes.items() if process.ended is None}
        most = wanted + max(wanted, leaving) + surplus
        assert len(known) + sum(one.mold in alive for one in self.unborn) <= most, (
            "more than twice the workers that are wanted"
        )

    def drain(self, action: events.DrainWorker) -> None:
        process = self.alive(action.pid)
        assert process.ready, "told to drain before it was ready"
        assert not process.draining
        process.draining = True
        child = self.state.children.get(action.pid)
        if (
            self.state.phase in (Phase.STARTING, Phase.RUNNING)
            and child.generation <= self.committed
            and not child.abandoned
        ):
            # a worker of a failed change is dismissed in any case: it was never committed
            assert any(map(self.serves, self.state.children)), "the last ready worker was dismissed"
        if action.successor and child.cause in (events.Cause.RELOAD, events.Cause.RECYCLE, events.Cause.RSS):
            # R10: the seats are otherwise ready, as far as it is us who decide
            generation = self.state.generation
            if child.abandoned:
                pass
            elif child.generation == generation:
                others = [c for c in self.state.children.of(generation, slot=child.slot) if c.stage is Stage.READY]
                assert others, "recycled before its successor was ready"
            elif child.generation < generation:
                assert self.state.phase is Phase.RUNNING

    @staticmethod
    def serves(child: Child) -> bool:
        """Whether the parent expects this worker to answer requests."""
        return child.stage is Stage.READY and child.cause != events.Cause.HUNG

    def kill(self, action: events.Kill) -> None:
        process = self.alive(action.pid)
        if action.signum == signal.SIGKILL and process.ended is None:
            self.end(process, -signal.SIGKILL)
        elif action.signum == signal.SIGQUIT and process.ended is None and process.ready and not process.stuck:
            self.say(process.pid, channel.DrainDone(["GET / 0.1 s"] * process.flights))
            self.end(process, 0)

    # ---- what must hold whenever the loop sleeps ----

    def check(self) -> None:
        """After each turn."""
        state = self.state
        leaves = state.phase is Phase.QUIESCED or (ending(state.phase) and state.phase is not Phase.ENDED)
        assert self.leaving == leaves or self.code is not None, "health checks tell something else than the phase"
        assert state.committed is None, "a commit without a verdict"
        assert {child.pid for child in state.children} == {
            one.pid for one in self.processes.values() if one.kind == "worker"
        }, "the plan and the kernel disagree about who is there"
        assert set(state.molds) == {one.pid for one in self.processes.values() if one.kind == MOLD}
        assert len(state.pending) == len(self.unborn) or self.code is not None, "an order that nobody remembers"
        codes = {self.processes[c.pid].code for c in state.children.of(state.generation) if c.stage is Stage.READY}
        assert len(codes) <= 1, f"one generation runs {codes}"
        seats = Counter(
            (child.slot, child.generation)
            for child in state.children
            if child.serving and child.pid != state.recycling and child.cause != events.Cause.HUNG
        )
        doubles = [seat for seat, count in seats.items() if count > 1]
        assert not doubles, f"two workers in the seats {doubles}"
        for backoff in state.backoffs.values():
            assert backoff.not_before <= self.now + 30.0

    def check_asleep(self) -> None:
        """Between two turns: nothing is due that would not be done, or the parent would spin."""
        if self.code is not None:
            return
        due = self.plan.deadline(self.now)
        if due is not None and due <= self.now:
            self.turn()
            due = self.plan.deadline(self.now) if self.code is None else None
            assert due is None or due > self.now, "what is due is not done: a busy loop"
        if ending(self.state.phase):
            assert self.state.change is None
        if self.state.phase in (Phase.STOPPING, Phase.HALTING):
            assert not [c for c in self.state.children if c.stage is Stage.BOOTING], "nobody will end this one"
