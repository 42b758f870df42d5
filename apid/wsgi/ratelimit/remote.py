"""Counts over several machines: a moving window in Redis or Valkey, through the `limits` library (the extra `apid[redis]`).

Not the leaky bucket of one machine: after `value` hits at once the next passes when the first of them is a whole unit old, not
as soon as one has leaked. In exchange no window of one unit ever sees more than `value` hits. The times are those of the machines
that ask: their clocks must agree, as NTP makes them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from typing import Any

from apid.wsgi.middleware.extras import needed
from apid.wsgi.ratelimit.charge import Charge, StorageError
from apid.wsgi.ratelimit.limit import UNITS, Limit

_FILTER, _EXTRA = "ratelimit", "redis"
_LONGEST_USER = 128
"""Bytes of a user's name that are part of a key as they are; without authentication clients choose their names."""


def without_password(uri: str) -> str:
    """A storage's URI as it may be shown."""
    return re.sub(r"//[^@/]*@", "//***@", uri.partition("?")[0])


class RemoteCounts:
    """Counts in a storage of the `limits` library that has the moving window.

    Args:
        uri: redis://, rediss://, redis+unix://, valkey://, redis+sentinel://, ...
        name: of the limiter; those of one name share their counts.
        timeout: seconds to wait for a connection and for an answer.

    Raises:
        ValueError: the URI is none of the library's, or its storage cannot count exactly.
        ExtraMissingError: the library is not installed.
    """

    def __init__(self, uri: str, name: str, timeout: float) -> None:
        storages = needed("limits.storage", _FILTER, _EXTRA)
        self._errors = needed("limits.errors", _FILTER, _EXTRA)
        self._items = needed("limits", _FILTER, _EXTRA).RateLimitItemPerSecond
        self._where = without_password(uri)
        self._name = name
        if uri.startswith("memory:"):
            raise ValueError("counts for each process alone")
        try:
            storage = storages.storage_from_string(uri, wrap_exceptions=True, **_client_options(uri, timeout))
        except self._errors.ConfigurationError as error:
            raise ValueError(without_password(str(error))) from None
        if not isinstance(storage, storages.MovingWindowSupport):
            raise ValueError("has no moving window, and so no exact count")  # noqa: TRY004 - the operator's value, not a type
        self._window = needed("limits.strategies", _FILTER, _EXTRA).MovingWindowRateLimiter(storage)

    def charge(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """Charge a hit to each of some limits for a user; raises StorageError."""
        return self._visit(user, limits, spend=True)

    def peek(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """What a hit would meet; raises StorageError."""
        return self._visit(user, limits, spend=False)

    def _visit(self, user: bytes, limits: Sequence[Limit], *, spend: bool) -> list[Charge]:
        try:
            return [self._one(user, limit, spend=spend) for limit in limits]
        except self._errors.StorageError as error:
            cause = error.storage_error
            raise StorageError(f"{self._where}: {type(cause).__name__}: {cause}") from error

    def _one(self, user: bytes, limit: Limit, *, spend: bool) -> Charge:
        item = self._items(limit.value, UNITS[limit.unit], namespace="apid")
        if len(user) > _LONGEST_USER:
            user = b"#" + hashlib.blake2b(user, digest_size=16).hexdigest().encode()
        key = (self._name, hashlib.blake2b(limit.identity, digest_size=8).hexdigest(), user.decode(errors="replace"))
        passed = self._window.hit(item, *key) if spend else True
        stats = self._window.get_window_stats(item, *key)
        wait = max(0.0, stats.reset_time - time.time()) if stats.remaining < limit.value else 0.0
        passed = passed and (spend or stats.remaining > 0)
        # a whole millisecond at least: when the oldest hit left between the two questions the wait is 0, the refusal is not
        return Charge(limit, 0.0 if passed else max(wait, 0.001), max(0, stats.remaining), wait)


def _client_options(uri: str, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if uri.startswith(("redis:", "rediss:", "redis+unix:")):
        # the library's default waits between several tries; one more is needed for a connection that a restart has closed
        retry = needed("redis.retry", _FILTER, _EXTRA).Retry
        options["retry"] = retry(needed("redis.backoff", _FILTER, _EXTRA).NoBackoff(), 1)
    return options
