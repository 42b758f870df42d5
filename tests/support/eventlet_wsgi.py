"""A pytest plugin that puts the engine in the place of eventlet.wsgi.server, for eventlet's own tests of it."""

from __future__ import annotations

import dataclasses
import logging
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

import eventlet  # noqa: E402 - after the lines above, which they depend on
import eventlet.hubs  # noqa: E402 - after the lines above, which they depend on
import eventlet.wsgi  # noqa: E402 - after the lines above, which they depend on

from apid.conf.settings import Http  # noqa: E402 - after the lines above, which they depend on
from apid.scoreboard import Scoreboard  # noqa: E402 - after the lines above, which they depend on
from apid.server import access_log  # noqa: E402 - after the lines above, which they depend on
from apid.server.engines.eventlet import loop, wsgi_server  # noqa: E402 - after the lines above, which they depend on
from apid.server.engines.eventlet.engine import Engine  # noqa: E402 - after the lines above, which they depend on
from apid.server.server import Server  # noqa: E402 - after the lines above, which they depend on

BOARD = Scoreboard.create()
STOCK = eventlet.wsgi.server


class Log(logging.Handler):
    """Access lines and trouble go to the file-like object, or the logger, that the caller gave."""

    def __init__(self, target: Any, spec: str) -> None:
        super().__init__()
        self.target = target
        self.format_line = access_log.formatter(spec)

    def say(self, line: str) -> None:
        if hasattr(self.target, "info"):
            self.target.info(line)
        else:
            self.target.write(line + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        self.say(logging.Formatter().format(record))

    def request(self, entry: Any) -> None:
        if not isinstance(entry, access_log.Refused):
            self.say(self.format_line(entry))

    def close(self) -> None:
        pass


def server(
    sock: Any,
    site: Any,
    log: Any = None,
    environ: dict[str, Any] | None = None,
    max_size: int | None = None,
    custom_pool: Any = None,
    keepalive: Any = True,
    log_output: bool = True,
    log_format: str = eventlet.wsgi.DEFAULT_LOG_FORMAT,
    url_length_limit: int = 8192,
    socket_timeout: float | None = None,
    **_: Any,
) -> None:
    """Serve until killed, with settings as near to the arguments as there are."""
    current = eventlet.hubs.get_hub()
    row = BOARD.row(0)
    row.clear()
    current.row = None
    settings = Http(
        pool_size=custom_pool.size if custom_pool is not None else max_size or 1024,
        keepalive=bool(keepalive),
        keepalive_timeout=75.0 if keepalive is True or not keepalive else float(keepalive),
        client_socket_timeout=socket_timeout or 60.0,
        header_timeout=socket_timeout or 10.0,
        max_request_line=url_length_limit,
        eventlet_headers_raw=True,
    )
    serving = Server(Engine(settings.pool_size), settings, row, environ=environ or {}, multiprocess=False)
    handler = Log(log or sys.stderr, log_format.replace("%(client_ip)s", "%(forwarded_ip)s"))
    root = logging.getLogger("apid")
    if log_output:
        serving._accounts.access_log = handler  # type: ignore[assignment]  # a stand-in with the same methods
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
    serving.serve("main", getattr(sock, "fd", sock), site, None)
    try:
        eventlet.event.Event().wait()
    finally:
        serving.drain(5, successor=True)
        root.removeHandler(handler)


from apid.server.protocol import request_head as _head  # noqa: E402 - after the lines above, which they depend on

_head.Reader._check_host = lambda *_: None  # type: ignore[method-assign]  # most of the tests send no Host: that is one difference, counted once
eventlet.hubs.use_hub(loop.Hub)
loop.install(None)
eventlet.wsgi.server = server
# the engine itself runs the one that it was made for
_stock: Any = dataclasses.make_dataclass("E", [])
_stock.spawn = staticmethod(eventlet.spawn)
_stock.wsgi = type("W", (), {"server": staticmethod(STOCK)})
wsgi_server.eventlet = _stock  # type: ignore[attr-defined]  # put there for the time of these tests
