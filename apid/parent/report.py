"""What the parent says of the daemon: the line in ps and systemctl, the facts for everybody, the document for `apidctl status`.

It changes nothing. The document itself is put together in apid.status, from these facts, by the parent and by workers alike.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from apid import status as documents
from apid.parent.backoff import STABLE
from apid.parent.children import Child
from apid.parent.effects import Effects
from apid.parent.events import Cause
from apid.parent.lifecycle import Stage
from apid.parent.phases import Phase
from apid.parent.state import Mold, State, Verdict
from apid.posix import accept_queue, sockets
from apid.version import VERSION

CAUSES = tuple(value for name, value in vars(Cause).items() if name.isupper())
"""Of the closed set, those that need no number: they are counted from 0."""

MOST_LISTENERS = 64 * 1024
"""Bytes of JSON for the list of listeners, the only part of the facts without a bound of its own: the others fill 160 KiB at
most, and the bulletin has room for 256."""

LONGEST_TEXT = 500
"""Characters of a verdict that the facts keep; the log has all of them."""


def status_line(state: State, now: float) -> str:
    """One line: `running, generation 7: 4 of 4 workers ready`."""
    parts = [
        f"{state.phase}, generation {state.generation}: {len(state.ready(state.generation))} of {state.wanted} workers ready"
    ]
    if state.change is not None:
        parts.append(f"{state.change.kind} to generation {state.change.generation}: {state.change.step}")
    leaving = sum(child.stage in (Stage.DRAINING, Stage.KILLED) for child in state.children)
    if leaving:
        parts.append(f"{leaving} draining")
    stalled = sum(child.stalled for child in state.children)
    if stalled:
        parts.append(f"{stalled} stalled")
    if state.phase is Phase.RUNNING and state.degraded(now):
        parts.append("degraded: reload" if state.outdated else "degraded")
    return "; ".join(parts)


def facts(state: State, effects: Effects, now: float) -> dict[str, Any]:
    """What a worker cannot know of the daemon; it stays the same while nothing happens."""
    change = state.change
    listeners, omitted = _listeners(effects)
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "line": status_line(state, now),
        "phase": state.phase.value,
        "degraded": state.phase is Phase.RUNNING and state.degraded(now),
        "started": state.started,
        "generation": state.generation,
        "wanted": state.wanted,
        "ready": len(state.ready(state.generation)),
        "listeners": listeners,
        "listeners_omitted": omitted,
        "change": None
        if change is None
        else {
            "kind": change.kind,
            "generation": change.generation,
            "step": change.step.value,
            "since": change.started,
        },
        "history": [_verdict(verdict) for verdict in state.history],
        "changes": {
            kind: {word: state.changes.get(f"{kind} {word}", 0) for word in ("ok", "failed")}
            for kind in ("reload", "upgrade")
        },
        "ends": dict.fromkeys(CAUSES, 0) | state.ends,
        "last_end": {str(slot): cause for slot, cause in state.last_end.items()},
        "outdated": state.outdated or None,
        "workers": [_worker(child) for child in _seated(state)],
        "molds": [_mold(mold) | effects.memory.of(mold.pid) for mold in state.molds.values() if not mold.dismissed],
    }


def status(state: State, effects: Effects, now: float, flights: int = 0) -> dict[str, Any]:
    """The whole document; numbers as they are in the scoreboard at this moment."""
    bound = {sockets.spell(one.sock): one.sock for _, one in effects.listeners.items()}
    told = facts(state, effects, now)
    return documents.document(
        told, effects.board, lambda address: accept_queue.look(bound[address]), now=now, flights=flights
    )


def _listeners(effects: Effects) -> tuple[list[dict[str, str]], int]:
    """The listeners as far as MOST_LISTENERS allows, and how many more there are."""
    names = {key: name for _, places in sorted(effects.places.items()) for name, keys in places.items() for key in keys}
    found = [
        {"name": names.get(key, ""), "address": spelled} for key, spelled in effects.listeners.statistics().items()
    ]
    sizes = itertools.accumulate(len(json.dumps(one)) for one in found)
    shown = sum(size <= MOST_LISTENERS for size in sizes)
    return found[:shown], len(found) - shown


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "kind": verdict.kind,
        "ok": verdict.ok,
        "text": verdict.text[:LONGEST_TEXT] + _aftermath(verdict),
        "deaths": verdict.deaths,
        "generation": verdict.generation,
        "seconds": round(verdict.seconds, 3),
        "at": verdict.at,
    }


def _aftermath(verdict: Verdict) -> str:
    if not verdict.deaths:
        return ""
    return f"; {verdict.deaths} workers ended within {STABLE:g} s after it, the last one with {verdict.last_death}"


def _mold(mold: Mold) -> dict[str, Any]:
    return {
        "pid": mold.pid,
        "generation": mold.generation,
        "stage": "ready" if mold.ready else "loading",
        "spawned": mold.spawned,
        "load": round(mold.load, 3) or None,
        "fork": round(mold.fork, 6) or None,
    }


def _seated(state: State) -> list[Child]:
    return sorted(state.children, key=lambda child: (child.slot, child.generation, child.pid))


def _worker(child: Child) -> dict[str, Any]:
    return {
        "slot": child.slot,
        "pid": child.pid,
        "generation": child.generation,
        "row": child.row,
        "stage": child.stage.value,
        "stalled": child.stalled,
        "cause": child.cause or None,
        "spawned": child.spawned,
    }
