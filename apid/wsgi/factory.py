"""Typed options for paste factories: from the strings of an ini section to a frozen dataclass, or a clear error.

paste.deploy hands a factory `(global_conf, **local_conf)`, every value a string. A filter or an app of the toolkit declares
what it takes as a frozen dataclass whose fields are made with `option(kind, ...)`; `filter_factory` and `app_factory` make the
paste factory out of that and of the class that does the work. Nothing else reads ini values.

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        max_body_size: int = option(kinds.size(minimum=1), default=114688, help="Largest request body.")

    factory = filter_factory("sizelimit", Options, SizeLimit)     # SizeLimit(app, options)

What is wrong raises `OptionError`, which names filter, option, value and what is allowed; the daemon's loader, which knows
them, adds file, section and line. The kinds of value are in kinds.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from wsgiref.types import WSGIApplication

from apid.wsgi.kinds import Kind

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - the options of a filter; a one-letter type variable like any other

FilterFactory = Callable[..., Callable[[WSGIApplication], WSGIApplication]]
AppFactory = Callable[..., WSGIApplication]

_META = "apid.option"
_URI_PASSWORD = re.compile(r"//[^@/\s]*@")


class OptionError(ValueError):
    """An option of a filter or an app is unknown, missing or has a value that it cannot have.

    Attributes:
        filter_name: the entry point's name (`sizelimit`), not the section's.
        option: as written in the ini file.
        value: as written; None when the option is missing or unknown. The text shows it without the password of a URI.
    """

    def __init__(self, filter_name: str, option: str, value: str | None, problem: str) -> None:
        self.filter_name = filter_name
        self.option = option
        self.value = value
        said = "" if value is None else f" = {_URI_PASSWORD.sub('//***@', value)}"
        super().__init__(f"{filter_name}: option {option}{said}: {problem}")


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """What `option` keeps in a field's metadata; read it with `declared`."""

    name: str
    kind: Kind[Any]
    default: Any
    required: bool
    help: str
    aliases: tuple[str, ...] = ()
    prefix: bool = False


def option(
    kind: Kind[T],
    *,
    help: str,  # noqa: A002 - oslo.config's name for it
    default: Any = dataclasses.MISSING,
    name: str = "",
    aliases: Iterable[str] = (),
) -> Any:
    """Declare a field of an options dataclass.

    Args:
        kind: one of kinds.py.
        help: one sentence for the operator.
        default: already a value, not a string; without one the option must be given.
        name: as written in the ini file, where the field's own name cannot be.
        aliases: older or foreign spellings of the same option.
    """
    return _field(Option(name, kind, default, default is dataclasses.MISSING, help, tuple(aliases)))


def options_by_prefix(kind: Kind[T], prefix: str, *, help: str) -> Any:  # noqa: A002 - as above
    """Declare a field that takes every option `<prefix><rest>` as a dict by <rest>."""
    return _field(Option(prefix, kind, None, False, help, prefix=True))


def _field(entry: Option) -> Any:
    if entry.prefix:
        return dataclasses.field(default_factory=dict, metadata={_META: entry})
    if entry.required:
        return dataclasses.field(metadata={_META: entry})
    return dataclasses.field(default=entry.default, metadata={_META: entry})


def declared(options: type[Any]) -> list[Option]:
    """Return the options of a dataclass in their order, each with its name as written in an ini file."""
    entries = [(field.name, field.metadata[_META]) for field in dataclasses.fields(options)]
    return [dataclasses.replace(entry, name=entry.name or name) for name, entry in entries]


def read(
    options: type[O], filter_name: str, local_conf: Mapping[str, Any], global_conf: Mapping[str, Any] | None = None
) -> O:
    """Make an options dataclass out of a section's strings.

    Values that are not strings (a factory called from Python) are taken as they are. An option that the section does not have
    is looked for in `global_conf`, which is where paste.deploy puts [DEFAULT] and what stands after `set`; other names there are
    nobody's business here. (paste.deploy drops a section's plain option when [DEFAULT] has one of that name: `set` is for that.)

    Raises:
        OptionError: an option is unknown, missing or wrong.
    """
    left = dict(local_conf)
    values: dict[str, Any] = {}
    for field, entry in zip(dataclasses.fields(options), declared(options), strict=True):  # type: ignore[arg-type] # O is a dataclass, which TypeVar cannot say
        if entry.prefix:
            taken = [key for key in left if key.startswith(entry.name) and key != entry.name]
            values[field.name] = {
                key[len(entry.name) :]: _value(filter_name, entry, key, left.pop(key)) for key in taken
            }
            continue
        given = [key for key in (entry.name, *entry.aliases) if key in left]
        if len(given) > 1:
            raise OptionError(
                filter_name, given[1], left[given[1]], f"is another name of {given[0]}, which is given too"
            )
        if given:
            values[field.name] = _value(filter_name, entry, given[0], left.pop(given[0]))
        elif inherited := [key for key in (entry.name, *entry.aliases) if key in (global_conf or {})]:
            values[field.name] = _value(filter_name, entry, inherited[0], (global_conf or {})[inherited[0]])
        elif entry.required:
            raise OptionError(filter_name, entry.name, None, f"is needed: {entry.kind.allowed}")
    for key in left:  # its value is not told: it may be a password whose option is misspelt
        raise OptionError(filter_name, key, None, f"is not known; {_nearest(key, options)}")
    return options(**values)


def _value(filter_name: str, entry: Option, key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return entry.kind.convert(value.strip())
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise OptionError(filter_name, key, value, f"must be {entry.kind.allowed}{why}") from None


def _nearest(key: str, options: type[Any]) -> str:
    names = [entry.name + ("<name>" if entry.prefix else "") for entry in declared(options)]
    older = [alias for entry in declared(options) for alias in entry.aliases]
    near = difflib.get_close_matches(key, [*names, *older], n=1)
    if near:
        return f"the nearest is {near[0]}"
    return f"it takes {', '.join(names)}" if names else "it takes no options"


def filter_factory(name: str, options: type[O], make: Callable[[WSGIApplication, O], WSGIApplication]) -> FilterFactory:
    """Return a paste.filter_factory that reads `options` once and wraps with `make(app, options)`.

    The factory carries `options` (the dataclass) and `filter_name` as attributes, for documents made from them.
    """

    def factory(
        global_conf: Mapping[str, Any] | None = None, **local_conf: Any
    ) -> Callable[[WSGIApplication], WSGIApplication]:
        values = read(options, name, local_conf, global_conf)
        return lambda app: make(app, values)

    factory.options = options  # type: ignore[attr-defined] # functions take attributes; typeshed has no word for it
    factory.filter_name = name  # type: ignore[attr-defined] # as above
    return factory


def app_factory(name: str, options: type[O], make: Callable[[O], WSGIApplication]) -> AppFactory:
    """Return a paste.app_factory that reads `options` and makes `make(options)`; attributes as `filter_factory`."""

    def factory(global_conf: Mapping[str, Any] | None = None, **local_conf: Any) -> WSGIApplication:
        return make(read(options, name, local_conf, global_conf))

    factory.options = options  # type: ignore[attr-defined] # functions take attributes; typeshed has no word for it
    factory.filter_name = name  # type: ignore[attr-defined] # as above
    return factory
