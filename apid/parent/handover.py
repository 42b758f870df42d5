"""The plan's state as a JSON document and back: what an upgrade carries over an exec. Pure: no descriptor, no process.

Nothing that somebody waits for may be missing here: askers of every kind get their answer from the new image.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from apid.conf.settings import Daemon
from apid.parent.backoff import Backoff
from apid.parent.children import Child, Children
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase
from apid.parent.state import Change, Poll, State, Step, Verdict


def pack(state: State) -> dict[str, Any]:
    """Return the document; only numbers, texts, lists and objects are in it."""
    change = state.change
    return {
        "daemon": dataclasses.asdict(state.daemon),
        "started": state.started,
        "wanted": state.wanted,
        "phase": state.phase.value,
        "generation": state.generation,
        "children": [dataclasses.asdict(child) for child in state.children],
        "backoffs": {str(slot): dataclasses.asdict(backoff) for slot, backoff in state.backoffs.items()},
        "change": None if change is None else {**dataclasses.asdict(change), "daemon": None},
        "queued": state.queued,
        "history": [dataclasses.asdict(verdict) for verdict in state.history],
        "recycling": state.recycling,
        "polls": [{**dataclasses.asdict(poll), "pending": sorted(poll.pending)} for poll in state.polls],
        "scaled": state.scaled,
        "scalers": state.scalers,
        "ends": state.ends,
        "changes": state.changes,
        "last_end": {str(slot): cause for slot, cause in state.last_end.items()},
    }


def unpack(kept: dict[str, Any]) -> State:
    """Return the state as it was; a document of another version is refused before the exec, not here."""
    known = {field.name for field in dataclasses.fields(Daemon)}
    change = kept["change"]
    state = State(
        daemon=Daemon(**{name: value for name, value in kept["daemon"].items() if name in known}),
        started=kept["started"],
        wanted=kept["wanted"],
        phase=Phase(kept["phase"]),
        generation=kept["generation"],
        children=Children([Child(**{**child, "stage": Stage(child["stage"])}) for child in kept["children"]]),
        backoffs={int(slot): Backoff(**backoff) for slot, backoff in kept["backoffs"].items()},
        change=None if change is None else Change(**{**change, "step": Step(change["step"])}),
        queued=[(kind, who) for kind, who in kept["queued"]],
        history=[Verdict(**verdict) for verdict in kept["history"]],
        recycling=kept["recycling"],
        polls=[Poll(**{**poll, "pending": set(poll["pending"])}) for poll in kept["polls"]],
        scaled=[(Command(command), number) for command, number in kept["scaled"]],
        scalers=[(who, number) for who, number in kept["scalers"]],
        ends=kept["ends"],
        changes=kept["changes"],
        last_end={int(slot): cause for slot, cause in kept["last_end"].items()},
        ever_ready=True,
    )
    state.verdict = state.history[-1] if state.history else None
    return state
