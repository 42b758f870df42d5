"""A Paste Deploy pipeline: load it, or say in one sentence why it cannot be; and tell what it is made of.

Imported in the worker, after the engine has been prepared: the factories import the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paste.deploy import loadwsgi

from apid.conf.settings import Paste
from apid.errors import PipelineError
from apid.worker.paste_errors import pipeline_error
from apid.worker.paste_loader import Failure, Trace, TrackedLoader, Tracker

_MAX_ROUTES = 300
_LAST: dict[Paste, Trace] = {}
"""What each pipeline of this worker is made of; it lives as long as the pipelines do."""


def load(paste: Paste) -> Any:
    """Return the WSGI application that a file's section makes.

    Raises:
        PipelineError: it cannot be made; the text names file, line, section and cause, `detail` is the traceback where the
            application's own code raised.
    """
    tracker = Tracker()
    names: list[str] = []
    try:
        loader = TrackedLoader(paste.config_file, tracker)
        names = loader.parser.sections()
        application = loader.get_context(loadwsgi.APP, paste.app_name).create()
    except Failure as failure:
        raise pipeline_error(paste.config_file, failure.cause, failure.way, names) from failure.cause
    except Exception as error:
        raise pipeline_error(paste.config_file, error, (), names) from error
    _LAST[paste] = (
        tracker.root.parts[0]
        if tracker.root.parts
        else Trace(paste.config_file, paste.app_name, 0, "", {}, application)
    )
    return application


def describe(paste: Paste, application: Any) -> dict[str, Any]:
    """Return what a loaded pipeline consists of, as JSON's types, for --check-config.

    Args:
        paste: as given to `load`.
        application: as `load` returned it.

    Returns:
        `file`, `app_name` and `tree`: for each section `section`, `uses`, `served_at` (its path in a composite, where it has
        one), `parts` (filters outermost first, then the application) and `routes` ([methods, path, name] each) where the
        object made for it has a method `apid_routes()`. Who tells routes tells those of its parts: they are not asked again.
    """
    trace = _LAST.get(paste)
    if trace is None:
        raise PipelineError(f"{paste.config_file}: [{paste.app_name}] has not been loaded")
    told = _routes(application)
    return {"file": paste.config_file, "app_name": paste.app_name, "tree": _describe(trace, "", ask=not told) | told}


def warnings(paste: Paste) -> list[str]:
    """Return what the parts of a loaded pipeline tell the operator: their attribute `apid_warning`, where it is a text."""
    found: dict[str, None] = {}
    parts = [_LAST[paste]] if paste in _LAST else []
    while parts:
        part = parts.pop()
        parts += part.parts
        warning = _attribute(part.made, "apid_warning")
        if isinstance(warning, str):
            found[warning] = None
    return list(found)


def _describe(trace: Trace, served_at: str, *, ask: bool) -> dict[str, Any]:
    node: dict[str, Any] = {"section": trace.section, "uses": trace.uses}
    if served_at:
        node["served_at"] = served_at
    told = _routes(trace.made) if ask else {}
    node["parts"] = [_describe(part, _mounted(trace, part), ask=ask and not told) for part in _ordered(trace)]
    return node | told


def _ordered(trace: Trace) -> list[Trace]:
    """Return the parts in the order in which a request passes them: Paste makes the application of a pipeline first."""
    if not trace.section.startswith("pipeline:"):
        return trace.parts
    words = [word.rpartition("#")[2] for word in trace.uses.split()]
    return sorted(trace.parts, key=lambda part: words.index(part.name) if part.name in words else -1)


def _mounted(trace: Trace, part: Trace) -> str:
    return next((key for key, value in trace.mounts.items() if value.strip() == part.name), "")


def _attribute(made: object, name: str) -> Any:
    """Return an attribute, or None: a proxy of the application may raise anything where it stands for nothing yet."""
    try:
        return getattr(made, name, None)
    except Exception:  # noqa: BLE001 - somebody else's code
        return None


def _routes(made: object) -> dict[str, Any]:
    """Ask an object for its routes; one that cannot answer costs the report nothing but them."""
    ask = _attribute(made, "apid_routes")
    if not callable(ask):
        return {}
    try:
        answer: Iterable[tuple[Any, str, str]] = ask()
        routes = [
            [verbs if isinstance(verbs, str) else " ".join(verbs), str(path), str(name or "")]
            for verbs, path, name in answer
        ]
    except Exception as error:  # noqa: BLE001 - somebody else's code, asked for a report's sake only
        return {"routes": [["", f"{type(error).__name__} while asked for the routes: {error}", ""]]}
    if not routes:
        return {}
    more = len(routes) - _MAX_ROUTES
    return {"routes": [*routes[:_MAX_ROUTES], *([["", f"and {more} more", ""]] if more > 0 else [])]}
