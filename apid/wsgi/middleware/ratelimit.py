"""The ratelimit filter: nova's limits, exact for any number of workers.

Every limit that matches a request is charged, for the user in the context; a request that one of them refuses is answered 429
with the shortest wait. How limits are written is `ratelimit.limit`; where hits are counted is `ratelimit.sharedtable` (one
machine, the default) or `ratelimit.remote` (several). `environ["nova.limits"]` is there for GET /limits.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.hosts import one_spelling
from apid.wsgi import context, faults, kinds
from apid.wsgi.factory import OptionError, option, options_by_prefix, read
from apid.wsgi.ratelimit import limit as limits_module
from apid.wsgi.ratelimit import statefile
from apid.wsgi.ratelimit.charge import Charge, Counts, StorageError
from apid.wsgi.ratelimit.limit import Limit, LimitSet
from apid.wsgi.ratelimit.outage import Guarded
from apid.wsgi.ratelimit.remote import RemoteCounts, without_password
from apid.wsgi.ratelimit.sharedtable import SharedTable, geometry

_NAME = "ratelimit"
LIMITS_KEY = "nova.limits"


def _storage(value: str) -> str:
    if value != "shared" and "://" not in value:
        raise ValueError
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    limits: tuple[Limit, ...] = option(
        limits_module.kind,
        default=limits_module.DEFAULT,
        help="(VERB, uri, regex, value, UNIT); ...; nova's of 2013 without.",
    )
    user_limits: dict[str, tuple[Limit, ...]] = options_by_prefix(
        limits_module.kind, "limits.", help="Limits of one user, instead of `limits`."
    )
    key: str = option(
        kinds.choice("user", "project", "address"), default="user", help="Whose hits are counted together."
    )
    storage: str = option(
        kinds.Kind("shared, or the URI of a Redis or Valkey (redis://host:6379/0)", _storage),
        default="shared",
        help="Where they are counted: shared memory of this machine, or a server for several.",
    )
    name: str = option(
        kinds.word, default=_NAME, help="Limiters of one name, with one storage, in one ini file, share their counts."
    )
    state_dir: str = option(kinds.text, default="", help="Directory of the shared memory's file.")
    buckets: int = option(
        kinds.integer(minimum=1024, maximum=2**24),
        default=65536,
        help="Counts kept at once in shared memory, 24 bytes each.",
    )
    timeout: float = option(
        kinds.seconds(minimum=0.001, maximum=10.0), default=0.25, help="How long a server may take to answer."
    )
    on_error: str = option(
        kinds.choice("allow", "deny"),
        default="allow",
        help="What happens to requests while the counts cannot be reached.",
    )
    headers: bool = option(kinds.boolean, default=True, help="Whether answers carry the RateLimit headers.")


class RateLimit:
    """Charge what matches, and refuse what is over."""

    def __init__(self, app: WSGIApplication, options: Options, counts: Counts) -> None:
        self._app = app
        self._options = options
        self._default = LimitSet(options.limits)
        self._of_users = {user: LimitSet(limits) for user, limits in options.user_limits.items()}
        self._counts = Guarded(
            counts, "requests are let through" if options.on_error == "allow" else "requests get 503"
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        who = self._who(environ)
        held = self._of_users.get(who, self._default) if who is not None else self._default
        environ[LIMITS_KEY] = LimitsView(held, self._counts, who)
        candidates = held.of(environ["REQUEST_METHOD"])
        if candidates:
            path = environ.get("PATH_INFO", "")
            query = environ.get("QUERY_STRING")
            if query:
                path = f"{path}?{query}"
            mount = environ.get("SCRIPT_NAME")
            full_path = mount + path if mount else path
            matching = [limit for limit in candidates if limit.matches(path, full_path)]
            if matching:
                return self._limited(environ, start_response, matching, who)
        return self._app(environ, start_response)

    def _who(self, environ: WSGIEnvironment) -> str | None:
        if self._options.key == "address":
            return one_spelling(environ.get("REMOTE_ADDR", "")) or None
        found = environ.get(context.KEY) or environ.get("nova.context")
        return getattr(found, "project_id" if self._options.key == "project" else "user_id", None)

    def _limited(
        self, environ: WSGIEnvironment, start_response: StartResponse, matching: list[Limit], who: str | None
    ) -> Iterable[bytes]:
        charges = self._counts.charge(_key(who), matching)
        if charges is None:
            if self._options.on_error == "allow":
                return self._app(environ, start_response)
            error = faults.Unavailable("Rate limits cannot be counted now.", headers={"Retry-After": "1"})
            return faults.render(error, environ, start_response)
        refused = [charge for charge in charges if charge.delay > 0]
        if refused:
            return self._refuse(environ, start_response, min(refused, key=lambda charge: charge.delay))
        if not self._options.headers:
            return self._app(environ, start_response)
        told = _headers(min(charges, key=lambda charge: charge.remaining / charge.limit.value))

        def start(status, headers, exc_info=None):  # type: ignore[no-untyped-def] # StartResponse is a protocol with an optional argument
            return start_response(status, [*headers, *told], exc_info)

        return self._app(environ, start)

    def _refuse(self, environ: WSGIEnvironment, start_response: StartResponse, charge: Charge) -> Iterable[bytes]:
        limit = charge.limit
        which = f"The limit is {limit.value} {limit.verb} requests a {limit.unit.lower()} for {limit.uri}."
        error = faults.RateLimited(which, charge.delay)
        if self._options.headers:
            error.headers.update(
                _headers(dataclasses.replace(charge, remaining=0, reset=max(charge.reset, charge.delay)))
            )
        return faults.render(error, environ, start_response)


def _key(who: str | None) -> bytes:
    """What counters are kept by: nobody shares with nobody, and no name of a user is that of nobody."""
    return b"-" if who is None else b"=" + who.encode(errors="surrogateescape")


def _headers(charge: Charge) -> list[tuple[str, str]]:
    """The fields of draft-ietf-httpapi-ratelimit-headers (as of -06), for the limit that is nearest to its end."""
    limit = charge.limit
    return [
        ("RateLimit-Limit", str(limit.value)),
        ("RateLimit-Remaining", str(charge.remaining)),
        ("RateLimit-Reset", str(math.ceil(charge.reset))),
        ("RateLimit-Policy", f"{limit.value};w={limits_module.UNITS[limit.unit]}"),
    ]


class LimitsView(Sequence[dict[str, Any]]):
    """`environ["nova.limits"]`: the limits of the one who asks, as nova's list, counted only when somebody looks."""

    __slots__ = ("_counts", "_found", "_held", "_who")

    def __init__(self, held: LimitSet, counts: Guarded, who: str | None) -> None:
        self._held = held
        self._counts = counts
        self._who = who
        self._found: list[dict[str, Any]] | None = None

    def _entries(self) -> list[dict[str, Any]]:
        if self._found is None:
            now = time.time()
            charges = self._counts.peek(_key(self._who), self._held.limits)
            if charges is None:  # the counts are away; what holds can be told all the same
                charges = [Charge(limit, 0.0, limit.value, 0.0) for limit in self._held.limits]
            self._found = [_entry(charge, now) for charge in charges]
        return self._found

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return an entry."""
        return self._entries()[index]

    def __len__(self) -> int:
        """How many limits there are."""
        return len(self._held.limits)


def _entry(charge: Charge, now: float) -> dict[str, Any]:
    limit = charge.limit
    return {
        "verb": limit.verb,
        "URI": limit.uri,
        "regex": limit.regex,
        "value": limit.value,
        "remaining": charge.remaining,
        "unit": limit.unit,
        "resetTime": math.ceil(now + charge.delay),
    }


def _counts(options: Options, config_file: str) -> Counts:
    if options.storage != "shared":
        try:
            return RemoteCounts(options.storage, options.name, options.timeout)
        except ValueError as error:
            raise OptionError(_NAME, "storage", without_password(options.storage), str(error)) from error
    sets, layout = geometry(options.buckets)
    try:
        directory = Path(options.state_dir) if options.state_dir else statefile.default_directory()
        statefile.sweep(directory)
        return SharedTable(statefile.path_of(directory, config_file, options.name, layout), sets)
    except (OSError, StorageError) as error:
        raise OptionError(_NAME, "state_dir", options.state_dir, f"its file cannot be used: {error}") from error


def factory(
    global_conf: Mapping[str, Any] | None = None, **local_conf: Any
) -> Callable[[WSGIApplication], WSGIApplication]:
    """The paste.filter_factory; the counts are opened here, so that what is wrong with them fails the load.

    Raises:
        OptionError: an option is wrong, or the storage that it names cannot be used.
        ExtraMissingError: `storage` needs the extra apid[redis].
    """
    options = read(Options, _NAME, local_conf, global_conf)
    counts = _counts(options, str((global_conf or {}).get("__file__", "")))
    return lambda app: RateLimit(app, options, counts)


factory.options = Options  # type: ignore[attr-defined] # as factory.filter_factory gives it; typeshed has no word for it
factory.filter_name = _NAME  # type: ignore[attr-defined] # as above
