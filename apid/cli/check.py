"""What --check-config prints: effective options with their source, the pipeline of each listener, the routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apid.conf.settings import Listener, Settings


def render(settings: Settings, report: Mapping[str, Any], notes: Sequence[str] = (), unsafe: Sequence[str] = ()) -> str:
    """Return the text for people.

    Args:
        settings: as loaded.
        report: for each listener, by name, what apid.worker.pipeline.describe told.
        notes: what may be wrong.
        unsafe: what the application has opened while loading that processes cannot share.
    """
    lines = [*_files(settings), "", *_options(settings)]
    for listener in settings.listeners:
        lines += ["", *_listener(listener, report.get(listener.name))]
    lines += ["", _loading(settings, unsafe)]
    lines += ["", "Notes:", *(f"  {note}" for note in notes)] if notes else []
    return "\n".join(lines)


def _loading(settings: Settings, unsafe: Sequence[str]) -> str:
    if settings.daemon.preload != "off" and not unsafe:
        return "The application is loaded once, and workers are forked from there."
    return f"Each worker loads the application by itself: {'it is not fork-safe' if unsafe else 'preload = off'}."


def _files(settings: Settings) -> Iterator[str]:
    if not settings.files:
        yield "No configuration file: defaults only."
        return
    yield "Configuration files, the later one wins:"
    for path in settings.files:
        yield f"  {path}"


def _options(settings: Settings) -> Iterator[str]:
    """Yield what somebody set first: that is what one looks for; the defaults follow."""
    given = [entry for entry in settings.sources if entry[2] != "default"]
    unset = [entry for entry in settings.sources if entry[2] == "default" and entry[1]]
    width = max((len(f"{name} = {value}") for name, value, _ in given), default=0)
    yield "Options that are set:" if given else "No option is set."
    for name, value, source in given:
        yield f"  {f'{name} = {value}':{min(width, 60)}}  ({source})"
    yield "Defaults:"
    for name, value, _ in unset:
        yield f"  {name} = {value}"


def _listener(listener: Listener, told: Mapping[str, Any] | None) -> Iterator[str]:
    addresses = ", ".join(str(address) for address in listener.addresses)
    kind = f"TLS ({', '.join(listener.tls.versions)})" if listener.tls else "plain HTTP"
    yield f"Listener {listener.name}: {addresses}, {kind}"
    yield f"  {listener.paste.app_name} of {listener.paste.config_file}"
    if told is None or "tree" not in told:
        yield "  (loaded; too large to be shown here)"
        return
    yield from _section(told["tree"], 2)


def _section(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    served_at = f"{node['served_at']} -> " if "served_at" in node else ""
    uses = "" if node["section"].startswith("pipeline:") or not node["uses"] else f"  ({node['uses']})"
    yield f"{indent}{served_at}[{node['section']}]{uses}"
    for part in node["parts"]:
        yield from _section(part, depth + 1)
    routes = node.get("routes", ())
    width = max((len(verbs) for verbs, _, _ in routes), default=0)
    for verbs, path, name in routes:
        yield f"{indent}  {verbs:{width}}  {path}{f'  {name}' if name else ''}"
