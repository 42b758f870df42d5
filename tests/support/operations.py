"""Counting work instead of timing it: calls of Python and C functions, the same on any machine under any load."""

from __future__ import annotations

import sys
from collections.abc import Callable

SQUARE = 8
"""Between 4, what four times the input costs when work is linear, and 16."""


def operations(work: Callable[[], object]) -> int:
    """How many functions a piece of work calls, in Python and in C."""
    found = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def growth(work: Callable[[int], Callable[[], object]], size: int, factor: int = 4) -> float:
    """By how much the work grows when its input grows by `factor`: about that for linear work, its square for quadratic.

    Args:
        work: makes the work for an input of a size.
    """
    small, large = work(size), work(size * factor)
    small()  # whatever is done once, such as filling a cache, is not counted
    return operations(large) / operations(small)


class CountedText(str):
    """A text that counts how often it is compared, also by C code that calls nothing else."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedText.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__
