"""Numbers as people read them, at most six characters wide: durations, counts, sizes."""

from __future__ import annotations

NONE = "-"


def duration(seconds: float | None) -> str:
    """A time span.

    >>> [duration(s) for s in (0.000123, 0.0042, 0.25, 4.2, 75, 4000, 90061, None)]
    ['123us', '4.2ms', '250ms', '4.2s', '75s', '66m', '25h', '-']
    """
    if seconds is None:
        return NONE
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.{1 if seconds < 0.01 else 0}f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for limit, size, unit in ((100, 1, "s"), (100 * 60, 60, "m"), (100 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86400)}d"


def count(value: float | None) -> str:
    """A number.

    >>> [count(n) for n in (0, 0.4, 7.25, 950, 12_345, 3_000_000, None)]
    ['0', '0.4', '7.2', '950', '12.3k', '3.0M', '-']
    """
    if value is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.1f}"


def size(octets: float) -> str:
    """Bytes in binary units.

    >>> [size(n) for n in (0, 52_428_800, 3 * 2**30)]
    ['0M', '50M', '3.0G']
    """
    return f"{octets / 2**30:.1f}G" if octets >= 2**30 else f"{octets / 2**20:.0f}M"
