"""Where a connection is in its life.

    NEW ──first octet──▶ HEAD ──head complete──▶ ACTIVE ──answered──▶ IDLE ──first octet──▶ HEAD …
     └─ TLS: HANDSHAKE first; PROXY: PREFACE first                └─ to be closed ▶ LINGER ──end, or deadline──▶ CLOSED

The order of the values counts: what is smaller than ACTIVE reads for itself, what is smaller than NEW does not yet speak HTTP.
"""

from __future__ import annotations

import enum


class Phase(enum.IntEnum):
    """Where a connection is in its life."""

    HANDSHAKE = 0
    PREFACE = 1
    NEW = 2
    HEAD = 3
    IDLE = 4
    ACTIVE = 5
    LINGER = 6
    CLOSED = 7
