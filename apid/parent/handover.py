"""The plan's state as a JSON document and back: what an upgrade carries over an exec. Pure: no descriptor, no process.

Nothing that somebody waits for may be missing here: askers of every kind get their answer from the new image.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from apid import bounds
from apid.conf.settings import Daemon
from apid.parent.children import Child, Children
from apid.parent.state import State


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
        "molds": {str(pid): dataclasses.asdict(mold) for pid, mold in state.molds.items()},
        "alone": sorted(state.alone),
        "codes": {str(generation): code for generation, code in state.codes.items()},
        "molding": dataclasses.asdict(state.molding),
        "outdated": state.outdated,
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


def unpack(kept: object) -> State:
    """Return the state as it was; a document of another version is refused before the exec, not here.

    Raises:
        ValueError: it is no document of `pack`; the text says where.
    """
    values = _CHECK(kept)
    children = Children(values.pop("children"))
    state = State(**values, children=children, ever_ready=True)
    state.verdict = state.history[-1] if state.history else None
    return state


def _daemon(value: object) -> Daemon:
    """The settings, without options of another version."""
    known = {field.name for field in dataclasses.fields(Daemon)}
    options = {name: one for name, one in value.items() if name in known} if isinstance(value, dict) else value
    daemon: Daemon = bounds.of(Daemon)(options)
    return daemon


_TYPES = typing.get_type_hints(State)
_CARRIED = (
    "started",
    "wanted",
    "phase",
    "generation",
    "backoffs",
    "change",
    "molds",
    "alone",
    "codes",
    "molding",
    "outdated",
    "queued",
    "history",
    "recycling",
    "polls",
    "scaled",
    "scalers",
    "ends",
    "changes",
    "last_end",
)
_CHECK = bounds.record(
    {"daemon": _daemon, "children": bounds.of(list[Child]), **{name: bounds.of(_TYPES[name]) for name in _CARRIED}}
)
