"""Steps that scenarios have in common: a kernel is brought to a known state."""

from __future__ import annotations

from apid import channel
from apid.parent import change_steps
from apid.parent.phases import Command, Phase
from tests.model.kernel import TRIAL


def running(kernel):
    boot(kernel)
    assert kernel.state.phase is Phase.RUNNING
    return kernel


def boot(kernel):
    """All workers that boot become ready."""
    for process in kernel.workers(ready=False):
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    return watched(kernel)


def watched(kernel):
    """A new generation whose seats are all ready is watched for its moment."""
    done = kernel.turn()
    proven = change_steps.proven_at(kernel.state)
    return done if proven is None else done + kernel.tick(proven - kernel.now)


def pass_trial(kernel):
    (trial,) = [one for one in kernel.processes.values() if one.kind == TRIAL and one.ended is None]
    kernel.say(trial.pid, channel.Ready())
    kernel.end(trial, 0)
    return kernel.turn()


def drained(kernel):
    """All that were told to drain leave."""
    for process in kernel.workers(draining=True):
        kernel.say(process.pid, channel.DrainDone())
        kernel.end(process, 0)
    return kernel.turn()


def seats(kernel):
    return sorted((child.slot, child.generation, child.stage) for child in kernel.state.children if child.serving)


def reload(kernel, who=None):
    kernel.ask(Command.RELOAD, who)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    drained(kernel)


def ready_first(kernel, *slots):
    """Make the booting workers of these slots ready."""
    for process in [p for p in kernel.workers(ready=False) if p.slot in slots]:
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    return watched(kernel)


def serving(kernel):
    return {(child.slot, child.generation) for child in kernel.state.children if kernel.serves(child)}
