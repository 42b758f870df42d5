"""The table of actions and their weights. Each action knows what it expects, and leaves the daemon at peace."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from tests.chaos.world import World

Body = Callable[[World, random.Random], None]


@dataclasses.dataclass(frozen=True)
class Action:
    """One entry of the table."""

    name: str
    weight: int
    body: Body


TABLE: dict[str, Action] = {}


def action(weight: int) -> Callable[[Body], Body]:
    """Put a function into the table under its own name."""

    def register(body: Body) -> Body:
        TABLE[body.__name__] = Action(body.__name__, weight, body)
        return body

    return register
