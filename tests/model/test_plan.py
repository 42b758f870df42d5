"""The plan among random events: nothing it promises depends on the order in which the world goes wrong.

One machine drives it with signals, control commands, children that boot, fail, hang and end with any code, forks and trials that
fail, upgrades, and time. After each step the kernel's invariants hold; at the end the daemon settles to what was last asked,
and then stops, within bounded steps and with the right code.
"""

from __future__ import annotations

import dataclasses
import signal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apid import channel
from apid.errors import ExitCode
from apid.parent import events
from apid.parent.phases import SIGNALS, Command, Phase, ending
from tests.model.kernel import MOLD, TRIAL, Kernel

CODES = [0, 1, 2, 7, 70, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGABRT]
CONTROL = [Command.RELOAD, Command.RELOAD, Command.UPGRADE, Command.SCALE, Command.REOPEN, Command.DUMP]
WORDS = [
    channel.Ready(),
    channel.BootFailed("config", "it says"),
    channel.BootFailed("crash", "it says"),
    channel.RecycleAsked("rss"),
    channel.Draining(),
    channel.DrainDone(),
    channel.Reopened("no"),
    channel.Dumped(),
    None,
]
PICK = st.integers(min_value=0, max_value=10**6)


class Machine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel | None = None
        self.askers = 0

    @initialize(
        workers=st.integers(1, 4),
        drain=st.sampled_from([0, 5]),
        startup=st.sampled_from([0, 20]),
        grace=st.sampled_from([0, 10]),
        preload=st.sampled_from(["off", "auto", "auto"]),
    )
    def start(self, workers, drain, startup, grace, preload):
        timeouts = {"startup_timeout": startup, "graceful_shutdown_timeout": grace}
        self.kernel = Kernel(workers, drain_delay=drain, preload=preload, **timeouts)

    # ---- children ----

    def one(self, pick, found):
        return found[pick % len(found)] if found else None

    @rule(pick=PICK, hold=st.booleans())
    def becomes_ready(self, pick, hold):
        process = self.one(pick, [p for p in self.kernel.workers(ready=False) if not p.draining])
        if process:
            process.ready = True
            self.kernel.say(process.pid, channel.Ready())
        self.go(hold)

    @rule()
    def all_become_ready(self):
        for process in self.kernel.workers(ready=False):
            process.ready = True
            self.kernel.say(process.pid, channel.Ready())
        self.go(False)

    @rule(pick=PICK, kind=st.sampled_from(["config", "crash"]), detail=st.sampled_from(["", "Traceback"]))
    def fails_to_boot(self, pick, kind, detail):
        process = self.one(pick, self.kernel.workers(ready=False))
        if process:
            self.kernel.say(process.pid, channel.BootFailed(kind, "a factory raised", detail))
            self.kernel.end(process, 2)
        self.go(False)

    @rule(pick=PICK, code=st.sampled_from(CODES), hold=st.booleans())
    def dies(self, pick, code, hold):
        process = self.one(pick, [p for p in self.kernel.processes.values() if p.ended is None])
        if process:
            self.kernel.end(process, code)
        self.go(hold)

    @rule(pick=PICK, cut=st.booleans(), hold=st.booleans())
    def leaves(self, pick, cut, hold):
        process = self.one(pick, self.kernel.workers(draining=True))
        if process:
            self.kernel.say(process.pid, channel.DrainDone(["GET / 9.9 s"] if cut else []))
            self.kernel.end(process, 0)
        self.go(hold)

    @rule(pick=PICK)
    def accepts_no_more(self, pick):
        process = self.one(pick, self.kernel.workers(draining=True))
        if process:
            self.kernel.say(process.pid, channel.Draining())
        self.go(False)

    @rule(passes=st.booleans(), code=st.sampled_from(CODES))
    def trial_ends(self, passes, code):
        process = self.one(0, [p for p in self.kernel.processes.values() if p.kind == TRIAL and p.ended is None])
        if process:
            self.kernel.say(process.pid, channel.Ready() if passes else channel.BootFailed("config", "no such factory"))
            self.kernel.end(process, 0 if passes else code)
        self.go(False)

    def molds(self, **wanted):
        found = [p for p in self.kernel.processes.values() if p.kind == MOLD and p.ended is None]
        return [p for p in found if all(getattr(p, k) == v for k, v in wanted.items())]

    @rule(pick=PICK, stays=st.sampled_from([True, True, False]), hold=st.booleans())
    def a_mold_has_loaded(self, pick, stays, hold):
        mold = self.one(pick, self.molds(ready=False))
        if mold:
            self.kernel.load(mold, stays=stays)
        self.go(hold)

    @rule(pick=PICK, kind=st.sampled_from(["config", "crash"]))
    def a_mold_fails_to_load(self, pick, kind):
        mold = self.one(pick, self.molds(ready=False))
        if mold:
            self.kernel.say(mold.pid, channel.BootFailed(kind, "a factory raised"))
            self.kernel.end(mold, 2)
        self.go(False)

    @rule(pick=PICK, born=st.sampled_from([True, True, True, False]), hold=st.booleans())
    def an_order_is_answered(self, pick, born, hold):
        order = self.one(pick, self.kernel.unborn)
        if order:
            self.kernel.bear(order) if born else self.kernel.miscarry(order)
        self.go(hold)

    @rule(code=st.sampled_from(["app.1111", "app.2222"]))
    def something_is_installed(self, code):
        self.kernel.disk = code

    @rule(preload=st.sampled_from(["off", "auto"]))
    def preload_is_changed(self, preload):
        self.kernel.daemon = dataclasses.replace(self.kernel.daemon, preload=preload)

    @rule(pick=PICK, cause=st.sampled_from(["recycle", "rss"]))
    def asks_to_be_recycled(self, pick, cause):
        process = self.one(pick, self.kernel.workers(ready=True))
        if process:
            self.kernel.say(process.pid, channel.RecycleAsked(cause))
        self.go(False)

    @rule(pick=PICK, hung=st.booleans())
    def is_silent(self, pick, hung):
        process = self.one(pick, self.kernel.workers(ready=True))
        if process:
            self.kernel.inbox.append(events.Silent(process.pid, 5.0, hung))
        self.go(False)

    @rule(pick=PICK)
    def beats_again(self, pick):
        process = self.one(pick, self.kernel.workers(ready=True))
        if process:
            self.kernel.inbox.append(events.Beating(process.pid))
        self.go(False)

    @rule(pick=PICK, dumped=st.booleans(), error=st.sampled_from(["", "cannot open"]))
    def answers(self, pick, dumped, error):
        process = self.one(pick, self.kernel.workers(ready=True))
        if process:
            self.kernel.say(process.pid, channel.Dumped() if dumped else channel.Reopened(error))
        self.go(False)

    @rule(pick=PICK, message=st.sampled_from(WORDS), times=st.integers(1, 3), hold=st.booleans())
    def says_what_it_likes(self, pick, message, times, hold):
        """A worker or a trial that its application has taken over: any message at any time, or none at all (`None`)."""
        process = self.one(pick, [p for p in self.kernel.processes.values() if p.ended is None])
        if process:
            for _ in range(times):
                said = events.Violation(process.pid, "[[[") if message is None else events.Said(process.pid, message)
                self.kernel.exits.append(said)
            if process.kind == MOLD and isinstance(message, channel.Ready):
                self.kernel.end(process, 0)
            process.ready |= isinstance(message, channel.Ready)
            if isinstance(message, channel.DrainDone):
                process.accounted, process.flights = True, 0
        self.go(hold)

    @rule(steps=st.integers(1, 5))
    def all_goes_well_for_a_while(self, steps):
        for _ in range(steps):
            if self.kernel.code is None:
                self.behave()

    # ---- operators ----

    @rule(
        signum=st.sampled_from([s for s in SIGNALS if SIGNALS[s] not in (Command.STOP, Command.HALT)]),
        hold=st.booleans(),
    )
    def a_signal(self, signum, hold):
        self.kernel.ask(SIGNALS[signum])
        self.go(hold)

    @rule(command=st.sampled_from(CONTROL), number=st.integers(-1, 6), hold=st.booleans())
    def a_command(self, command, number, hold):
        self.askers += 1
        self.kernel.ask(command, self.askers, number)
        self.go(hold)

    @rule(early=st.integers(1, 3), number=st.integers(1, 4), trial=st.booleans())
    def a_scale_down_meets_boots_out_of_order(self, early, number, trial):
        """The highest seats become ready first, then the number of workers is reduced."""
        if trial:
            self.trial_ends(True, 0)
        booting = sorted((p for p in self.kernel.workers(ready=False) if not p.draining), key=lambda p: -p.slot)
        for process in booting[:early]:
            process.ready = True
            self.kernel.say(process.pid, channel.Ready())
        self.go(False)
        self.askers += 1
        self.kernel.ask(Command.SCALE, self.askers, number)
        self.go(False)

    @rule(count=st.integers(1, 40))
    def a_storm_of_hups(self, count):
        for _ in range(count):
            self.kernel.ask(Command.RELOAD)
        self.go(False)
        assert len({kind for kind, _ in self.kernel.state.queued}) <= 2

    @rule(workers=st.integers(1, 5))
    def the_configuration_changes(self, workers):
        self.kernel.daemon = type(self.kernel.daemon)(
            **{
                **{f: getattr(self.kernel.daemon, f) for f in self.kernel.daemon.__dataclass_fields__},
                "workers": workers,
            }
        )

    @rule(
        command=st.sampled_from([Command.STOP, Command.STOP, Command.HALT]), control=st.booleans(), hold=st.booleans()
    )
    @precondition(lambda self: self.kernel and self.kernel.now > 1030)
    def a_stop(self, command, control, hold):
        self.askers += control
        self.kernel.ask(command, self.askers if control else None)
        self.go(hold)

    # ---- the world ----

    @rule(forks=st.integers(0, 3))
    def forks_fail(self, forks):
        self.kernel.forks_that_fail = forks

    @rule(prepare=st.booleans(), trial=st.booleans(), become=st.booleans(), commit=st.booleans())
    def the_next_changes_fail(self, prepare, trial, become, commit):
        self.kernel.prepare_fails, self.kernel.try_fails, self.kernel.exec_fails = prepare, trial, become
        self.kernel.commit_fails = commit

    @rule(pick=PICK, flights=st.integers(0, 3), stuck=st.booleans())
    def has_requests(self, pick, flights, stuck):
        process = self.one(pick, self.kernel.workers(ready=True))
        if process and not process.accounted:
            process.flights, process.stuck = flights, stuck

    @rule(waiting=st.integers(0, 3))
    def connections_wait(self, waiting):
        self.kernel.queue = waiting

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0, 11.0, 31.0]))
    def time_passes(self, seconds):
        until = self.kernel.now + seconds
        for _ in range(200):
            due = self.kernel.plan.deadline(self.kernel.now) if self.kernel.code is None else None
            if due is None or due >= until:
                break
            self.kernel.now = max(self.kernel.now, due)
            self.go(False)
        else:
            raise AssertionError("200 deadlines in half a minute")
        self.kernel.now = until
        self.go(False)

    def go(self, hold):
        if not hold and self.kernel.code is None:
            self.kernel.turn()

    @invariant()
    def nothing_is_due(self):
        if self.kernel:
            self.kernel.check_asleep()

    # ---- the end ----

    def teardown(self):
        if self.kernel is None:
            return
        kernel = self.kernel
        kernel.forks_that_fail = 0
        kernel.prepare_fails = kernel.try_fails = kernel.exec_fails = False
        self.go(False)
        if kernel.code is None and not ending(kernel.state.phase):
            self.settle()
        self.stop()

    def behave(self):
        """One step in which every child does what is wanted of it."""
        kernel = self.kernel
        for process in list(kernel.processes.values()):
            if process.ended is not None:
                continue
            if process.kind == TRIAL:
                kernel.say(process.pid, channel.Ready())
                kernel.end(process, 0)
            elif process.kind == MOLD:
                if not process.ready:
                    kernel.load(process, code=kernel.state.codes.get(process.generation, ""))
            elif not process.ready:
                process.ready = True
                kernel.say(process.pid, channel.Ready())
            elif process.draining:
                kernel.say(process.pid, channel.DrainDone())
                kernel.end(process, 0)
        self.answer_orders()
        for poll in kernel.state.polls:
            for pid in poll.pending:
                if pid in kernel.processes and kernel.processes[pid].ended is None:
                    kernel.say(pid, channel.Reopened() if poll.kind == Command.REOPEN else channel.Dumped())
        kernel.turn()
        kernel.check_asleep()
        due = kernel.plan.deadline(kernel.now) if kernel.code is None else None
        if due is not None and not kernel.exits:
            kernel.now = max(kernel.now, due)

    def answer_orders(self):
        for order in list(self.kernel.unborn):
            mold = self.kernel.processes.get(order.mold)
            self.kernel.bear(order) if mold is not None and mold.ended is None else self.kernel.miscarry(order)

    def settle(self):
        kernel = self.kernel
        for _ in range(120):
            self.behave()
            if kernel.code is not None or self.is_settled():
                break
        else:
            raise AssertionError(f"does not settle: {kernel.state}")
        if kernel.code is not None:
            assert kernel.code in (ExitCode.NO_WORKER, ExitCode.CONFIG)
            return
        unanswered = [who for who, asked in kernel.asked.items() if len(kernel.replies.get(who, [])) != asked]
        assert not unanswered, f"no verdict for {unanswered}"

    def is_settled(self):
        state = self.kernel.state
        if state.change is not None or state.queued or self.kernel.exits:
            return False
        if state.phase is Phase.QUIESCED:
            return not len(state.children)
        if not all(map(self.kernel.serves, state.children)):
            return False
        seats = sorted((child.slot, child.generation) for child in state.children)
        return state.phase is Phase.RUNNING and seats == [(slot, state.generation) for slot in range(state.wanted)]

    def stop(self):
        kernel = self.kernel
        if kernel.code is None:
            kernel.ask(Command.STOP, self.askers + 1)
        for _ in range(40):
            if kernel.code is not None:
                break
            self.behave()
        assert kernel.code is not None, f"TERM does not end it: {kernel.state}"
        assert kernel.code in (0, 1, 2, 4)
        assert kernel.code != ExitCode.CUT or kernel.state.cut or kernel.state.killed
        assert kernel.state.cut == kernel.lost, "the number of lost requests is not true"
        assert not kernel.workers(), "an orphan"
        unanswered = [who for who, asked in kernel.asked.items() if len(kernel.replies.get(who, [])) != asked]
        assert not unanswered, f"no verdict for {unanswered}"
        assert not kernel.rows, "rows of the scoreboard that nobody frees"


TestPlan = Machine.TestCase
TestPlan.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
class TestPlanForLong(Machine.TestCase):
    settings = settings(
        max_examples=1500, stateful_step_count=80, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
