"""The server: everything between listening sockets and applications, for one worker; the one door of this package.

It puts the parts together and drains them. How a drain goes, in the order of what it does:

1. From now on each head of a response says `Connection: close`, decided when it is written.
2. The listeners end. With a successor after one last try (a wake-up of the kernel may have come to us alone); without one the
   kernel's queue is answered to its end first, and each worker closes its own copy of the socket, never shutdown(2).
3. Connections without a request may still bring one for a moment (connection.GRACE) and are then half-closed; a request that
   comes after that is never run, because its answer would be lost.
4. When the deadline is over, what is left is cut and named.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from apid import log, scoreboard
from apid.conf import settings as conf
from apid.loggers import logger
from apid.server import context, tls_context
from apid.server.acceptor import Acceptor
from apid.server.accounts import Accounts
from apid.server.connection import Connection
from apid.server.engines import base
from apid.server.interruptions import Cut, RequestTimeout
from apid.server.phase import Phase
from apid.server.request_handler import RequestHandler
from apid.server.timer_wheel import GRAIN

LOG = logger(__name__)

DEAF = 0.005
"""Seconds between two looks whether a drain has closed the listeners: a reload's verdict waits for it."""

LOOK = 0.02
"""Seconds between two looks whether a drain is over."""


class Server:
    """Serves applications on listening sockets until it is drained."""

    def __init__(
        self,
        engine: base.Engine,
        settings: conf.Http,
        row: scoreboard.Row,
        *,
        environ: Mapping[str, object],
        multiprocess: bool,
    ) -> None:
        """Make a server.

        Args:
            engine: what runs requests.
            settings: of the HTTP server.
            row: where it counts.
            environ: entries for every request's environ.
            multiprocess: `wsgi.multiprocess`.

        Raises:
            ConfigError: the access log cannot be opened, or its format is wrong.
        """
        self._engine = engine
        self._loop = engine.loop
        self._executor = engine.executor
        self._settings = settings
        self._accounts = Accounts(row, settings, engine.executor)
        self._accounts.open_log(settings, engine.loop.call_later)
        self._acceptors: list[Acceptor] = []
        self._contexts: dict[conf.Tls, Any] = {}
        draining = {"apid.worker_draining": lambda: self._accounts.draining}
        self._environ = {**environ, **draining, "wsgi.multiprocess": multiprocess}
        self._loop.gauge = self._accounts.gauge
        log.set_request_id_source(self._request_id)
        self._executor.on_full = self._executor.on_room = self._kick
        timeouts = settings.header_timeout, settings.keepalive_timeout, settings.client_socket_timeout
        grain = min([GRAIN, *(seconds / 8 for seconds in timeouts if seconds)])
        self._loop.wheel.refine(max(LOOK, grain))
        row.cells[scoreboard.ENGINE] = list(conf.POOL_SIZES).index(engine.name)
        self._refresh_date()
        if settings.request_timeout:
            self._look_for_late()

    def __repr__(self) -> str:
        """What it holds."""
        count = len(self._accounts.connections)
        return f"<Server listeners={len(self._acceptors)} connections={count} {self._executor!r}>"

    def serve(
        self,
        name: str,
        sock: socket.socket,
        app: Callable[..., Any],
        tls_settings: conf.Tls | None,
        http: conf.Http | None = None,
    ) -> None:
        """Begin to accept on a plain non-blocking listening socket that the siblings share.

        Args:
            name: of the listener.
            sock: the socket.
            app: what answers.
            tls_settings: None for plain HTTP.
            http: whom the listener believes and which hosts it answers for; None: as the server's own settings say.

        Raises:
            ConfigError: as `context`.
        """
        accounts = self._accounts
        shared = context.make(
            name,
            sock,
            app,
            accounts=accounts,
            engine=self._engine,
            environ=self._environ,
            settings=http or self._settings,
            tls=self.context(tls_settings) if tls_settings is not None else None,
            verifies=tls_settings is not None and tls_settings.ca_file is not None,
        )
        acceptor = Acceptor(name, sock, self._engine, accounts.row, self._spare)
        accounts.accepting = True
        accounts.count()
        self._engine.accept(acceptor, lambda fd, peer: Connection(shared, *shared.open(fd), peer), app)
        self._acceptors.append(acceptor)

    def context(self, settings: conf.Tls) -> Any:
        """Return the TLS context of these settings, which is made once.

        Raises:
            ConfigError: it cannot be made; the text names option, place and file.
        """
        if settings not in self._contexts:
            self._contexts[settings] = tls_context.make(settings)
        return self._contexts[settings]

    def _refresh_date(self) -> None:
        now = time.time()
        self._loop.call_later(1.0 - now % 1.0 + 0.001, self._refresh_date)
        self._accounts.date.refresh()

    def _kick(self) -> None:
        for acceptor in self._acceptors:
            acceptor.kick()

    def _spare(self) -> bool:
        """Close the keep-alive connection that has been idle for longest: descriptors have run out."""
        idle = [conn for conn in self._accounts.connections if conn.phase is Phase.IDLE]
        if not idle:
            return False
        min(idle, key=lambda conn: conn.deadline).end()
        return True

    @property
    def listening(self) -> bool:
        """Whether any of its listeners may still accept."""
        return not all(acceptor.over for acceptor in self._acceptors)

    def drain(
        self,
        deadline: float,
        *,
        successor: bool,
        addresses: Collection[str] = (),
        deaf: Callable[[], object] = lambda: None,
    ) -> list[str]:
        """Stop accepting, finish what is in flight; blocks the caller as the engine has it.

        Args:
            deadline: seconds until what is left is cut.
            successor: whether other workers go on accepting from the same sockets.
            addresses: of the listeners that end for good even so.
            deaf: called once this process accepts nothing more, or at the deadline.

        Returns:
            What was cut: one text a request, `METHOD path 61.2 s req-…`.
        """
        accounts = self._accounts
        until = time.monotonic() + deadline

        def begin() -> None:
            accounts.draining = accounts.closing = True
            accounts.accepting = False
            accounts.count()
            for acceptor in self._acceptors:
                acceptor.end(empty=not successor or acceptor.address in addresses)
            now = time.monotonic()
            self._loop.wheel.refine(LOOK)
            for conn in list(accounts.connections):
                conn.drain(now)

        self._engine.in_loop(begin)
        while time.monotonic() < until and self.listening:
            self._engine.sleep(DEAF)
        deaf()
        while time.monotonic() < until and accounts.connections:
            self._engine.sleep(LOOK)
        cut: list[str] = self._engine.in_loop(self._cut)
        return cut

    def lose(self) -> list[str]:
        """Count the requests in flight as cut, for they are about to be lost; returns a text for each."""
        lost: list[str] = self._engine.in_loop(self._lose)
        return lost

    def _lose(self) -> list[str]:
        handlers = [conn.handler for conn in self._accounts.connections]
        texts = [_describe(handler) for handler in handlers if handler is not None and not handler.late]
        self._accounts.cells[scoreboard.CUT] += len(texts)
        return texts

    def _cut(self) -> list[str]:
        for acceptor in self._acceptors:
            if not acceptor.over:
                acceptor.close()
        texts: list[str] = []
        for conn in list(self._accounts.connections):
            handler: RequestHandler | None = conn.handler
            if (
                handler is not None and not handler.late
            ):  # else it has been answered by request_timeout, counted and logged
                text = _describe(handler)
                if handler.started and not self._executor.interrupts:
                    handler.cut()
                elif handler.started:
                    self._loop.call_soon(functools.partial(self._executor.interrupt, handler, Cut))
                    self._engine.sleep(0)
                # One that is over without having been cut was answered in the turn that the loop took.
                if conn.handler is handler or handler.outcome == "cut":
                    self._accounts.cells[scoreboard.CUT] += 1
                    texts.append(text)
            conn.end()
        return texts

    def _look_for_late(self) -> None:
        """Look which requests take longer than request_timeout."""
        timeout = self._settings.request_timeout
        self._loop.call_later(min(1.0, timeout / 4), self._look_for_late)
        before = time.monotonic_ns() - int(timeout * 1e9)
        for handler in self._executor.tasks():
            if (
                isinstance(handler, RequestHandler)
                and (handler.warned or handler.started) < before
                and not handler.late
            ):
                handler.warned = time.monotonic_ns()  # who swallows it gets it again, after as long again
                self._accounts.cells[scoreboard.TIMEOUTS] += 1
                if not self._executor.interrupt(handler, RequestTimeout):
                    handler.expire()
        self._accounts.cells[scoreboard.STUCK] = self.stuck()

    def reopen(self) -> None:
        """Reopen the access log.

        Raises:
            ConfigError: it cannot be opened; the old file stays.
        """
        if self._accounts.access_log is not None:
            self._engine.in_loop(self._accounts.access_log.reopen)

    def close(self) -> None:
        """Flush the logs."""
        self._engine.in_loop(self._close)

    def _close(self) -> None:
        if self._accounts.access_log is not None:
            self._accounts.access_log.close()
            self._accounts.access_log = None

    def stuck(self) -> int:
        """Return how many slots are taken by requests that could not be ended by request_timeout."""
        return sum(isinstance(task, RequestHandler) and task.late for task in self._executor.tasks())

    def forget(self) -> None:
        """In a process that the application forked: close its copies of all connections; other requests never run there.

        Nothing is shut down and nothing is sent: the connections belong to the worker.
        """
        self._engine.forget()
        for conn in self._accounts.connections:
            conn.stream.sock.close()
        if self._accounts.access_log is not None:
            self._accounts.access_log.forget()
            self._accounts.access_log = None

    def statistics(self) -> dict[str, object]:
        """Return what the server is doing."""
        return {
            "connections": len(self._accounts.connections),
            "running": self._executor.busy,
            "waiting": self._executor.waiting(),
            "requests": self._accounts.number,
            "draining": self._accounts.draining,
        }

    def _request_id(self) -> str | None:
        """The id of the request that the caller answers, as the application knows it; None outside of one."""
        task = self._executor.current()
        return task.request_id if isinstance(task, RequestHandler) else None


def _describe(handler: RequestHandler) -> str:
    """One request that is being cut."""
    line = handler.request.line.decode("latin-1").rsplit(" ", 1)[0]
    if not handler.started:
        return f"{line} (waiting for a slot)"
    return f"{line} {(time.monotonic_ns() - handler.started) / 1e9:.1f} s {handler.request_id}"
