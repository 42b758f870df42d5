"""The engine: everything between listening sockets and applications, for one worker; the one door of this package.

It puts the parts together and drains them. `eventlet.wsgi.server` runs the accept loop of each listening socket, with our
listener as its socket, our pool and, in the place of its protocol, the beginning of our connections.

How a drain goes, in the order of what it does:

1. From now on each head of a response says `Connection: close`, decided when it is written.
2. The listeners end. With a successor after one last try (a wake-up of the kernel may have come to us alone); without one the
   kernel's queue is answered to its end first, and each worker closes its own copy of the socket, never shutdown(2).
3. Connections without a request may still bring one for a moment (connection.GRACE) and are then half-closed; a request that
   comes after that is never run, because its answer would be lost.
4. When the deadline is over, what is left is cut and named.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import eventlet
import eventlet.wsgi
import greenlet

from apid import log, scoreboard
from apid.conf import settings as conf
from apid.loggers import logger
from apid.server import connection, tls_context, tls_stream
from apid.server.acceptor import Listener
from apid.server.context import Service, Shared
from apid.server.engines.eventlet import loop
from apid.server.engines.eventlet.executor import Pool
from apid.server.interruptions import Cut, RequestTimeout
from apid.server.phase import Phase
from apid.server.request_handler import Exchange

LOG = logger(__name__)

LOOK = 0.02
"""Seconds between two looks whether a drain is over."""


class Engine:
    """Serves applications on listening sockets until it is drained."""

    def __init__(
        self, settings: conf.Http, row: scoreboard.Row, *, environ: Mapping[str, object], multiprocess: bool
    ) -> None:
        """Make an engine in a worker whose hub is `hub.install`'s.

        Args:
            settings: of the HTTP engine.
            row: where it counts.
            environ: entries for every request's environ.
            multiprocess: `wsgi.multiprocess`.

        Raises:
            ConfigError: the access log cannot be opened, or its format is wrong.
        """
        self._hub = loop.current()
        self._pool = Pool(self._hub, settings.pool_size)
        self._shared = Shared(self._hub, self._pool, row, settings)
        self._listeners: list[tuple[Listener, Any]] = []
        self._contexts: dict[conf.Tls, Any] = {}
        draining = {"apid.worker_draining": lambda: self._shared.draining}
        self._environ = {**environ, **draining, "wsgi.multiprocess": multiprocess}
        self._hub.gauge = self._shared.gauge
        log.set_request_id_source(_request_id)
        self._pool.on_full = self._pool.on_room = self._kick
        timeouts = settings.header_timeout, settings.keepalive_timeout, settings.client_socket_timeout
        grain = min([loop.GRAIN, *(seconds / 8 for seconds in timeouts if seconds)])
        self._hub.deadlines.refine(max(LOOK, grain))
        self._refresh_date()
        if settings.request_timeout:
            self._look_for_late()

    def __repr__(self) -> str:
        """What it holds."""
        return f"<Engine listeners={len(self._listeners)} connections={len(self._shared.connections)} {self._pool!r}>"

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
            http: whom the listener believes and which hosts it answers for; None: as the engine's own settings say.

        Raises:
            ConfigError: as `context`.
        """
        made = self.context(tls_settings) if tls_settings is not None else None
        verifies = tls_settings is not None and tls_settings.ca_file is not None
        shared = self._shared
        service = Service(
            name,
            sock,
            app,
            shared,
            self._environ,
            settings=http or shared.settings,
            secure=made is not None,
            verifies=verifies,
        )

        def connect(fd: int, peer: object) -> connection.Connection:
            if made is None:
                return connection.plain(service, fd, peer)
            return tls_stream.TlsConnection(service, fd, peer, made)

        listener = Listener(name, sock, self._hub, self._pool, shared.row, connect, self._spare)
        shared.accepting = True
        shared.count()
        server = eventlet.spawn(
            eventlet.wsgi.server,
            listener,
            app,
            custom_pool=self._pool,
            protocol=_begin,
            log_output=False,
            debug=False,
        )
        self._listeners.append((listener, server))

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
        self._hub.schedule_call_global(1.0 - now % 1.0 + 0.001, self._refresh_date)
        self._shared.date.refresh()

    def _kick(self) -> None:
        for listener, _ in self._listeners:
            listener.kick()

    def _spare(self) -> bool:
        """Close the keep-alive connection that has been idle for longest: descriptors have run out."""
        idle = [conn for conn in self._shared.connections if conn.phase is Phase.IDLE]
        if not idle:
            return False
        min(idle, key=lambda conn: conn.deadline).end()
        return True

    @property
    def listening(self) -> bool:
        """Whether any of its listeners may still accept."""
        return not all(listener.closed for listener, _ in self._listeners)

    def drain(self, deadline: float, *, successor: bool, addresses: Collection[str] = ()) -> list[str]:
        """Stop accepting, finish what is in flight; blocks the calling green thread.

        Args:
            deadline: seconds until what is left is cut.
            successor: whether other workers go on accepting from the same sockets.
            addresses: of the listeners that end for good even so.

        Returns:
            What was cut: one text a request, `METHOD path 61.2 s req-…`.
        """
        shared = self._shared
        until = time.monotonic() + deadline
        shared.draining = shared.closing = True
        shared.accepting = False
        shared.count()
        for listener, _ in self._listeners:
            listener.end(empty=not successor or listener.address in addresses)
        now = time.monotonic()
        self._hub.deadlines.refine(LOOK)
        for conn in list(shared.connections):
            conn.drain(now)
        while time.monotonic() < until and (shared.connections or not all(one.closed for one, _ in self._listeners)):
            eventlet.sleep(LOOK)
        return self._cut()

    def lose(self) -> list[str]:
        """Count the requests in flight as cut, for they are about to be lost; returns a text for each."""
        texts = [_describe(conn) for conn in self._shared.connections if _begun(conn)]
        self._shared.row.cells[scoreboard.CUT] += len(texts)
        return texts

    def _cut(self) -> list[str]:
        for listener, server in self._listeners:
            if not listener.closed:
                server.kill()
        texts: list[str] = []
        for conn in list(self._shared.connections):
            exchange, text = conn.exchange, _describe(conn) if _begun(conn) else ""
            ended = self._throw(exchange, Cut)
            # One that is over without having been cut was answered in the turn that the hub took.
            answered = exchange is not None and conn.exchange is not exchange and exchange.outcome != "cut"
            if text and not answered:
                self._shared.row.cells[scoreboard.CUT] += 1
                texts.append(text)
            if not ended:
                conn.end()
        return texts

    def _throw(self, exchange: Exchange | None, what: type[BaseException]) -> bool:
        """Throw something into the green thread that makes an answer; False: there is none."""
        for thread in self._pool.threads:
            work = thread.work
            if exchange is not None and isinstance(work, connection.Connection) and work.exchange is exchange:
                self._hub.schedule_call_global(0, thread.throw, what)
                eventlet.sleep(0)
                return work.closed
        return False

    def _look_for_late(self) -> None:
        """Look which requests take longer than request_timeout; a timer's callback, in the hub's greenlet."""
        timeout = self._shared.settings.request_timeout
        self._hub.schedule_call_global(min(1.0, timeout / 4), self._look_for_late)
        before = time.monotonic_ns() - int(timeout * 1e9)
        for thread in list(self._pool.threads):
            work = thread.work
            exchange = work.exchange if isinstance(work, connection.Connection) else None
            if exchange is not None and exchange.deadline_from < before:
                exchange.deadline_from = time.monotonic_ns()  # who swallows it gets it again, after as long again
                self._shared.row.cells[scoreboard.TIMEOUTS] += 1
                thread.throw(RequestTimeout)

    def reopen(self) -> None:
        """Reopen the access log.

        Raises:
            ConfigError: it cannot be opened; the old file stays.
        """
        if self._shared.access_log is not None:
            self._shared.access_log.reopen()

    def close(self) -> None:
        """Flush the logs."""
        if self._shared.access_log is not None:
            self._shared.access_log.close()
            self._shared.access_log = None

    def forget(self) -> None:
        """In a process that the application forked: close its copies of all connections; other requests never run there.

        Nothing is shut down and nothing is sent: the connections belong to the worker.
        """
        current = greenlet.getcurrent()
        for thread in self._pool.threads:
            if thread is not current:  # releasing a green lock here would wake the threads that wait for it
                thread.switch = thread.throw = _stay
        for conn in self._shared.connections:
            conn.sock.close()
        if self._shared.access_log is not None:
            self._shared.access_log.forget()
            self._shared.access_log = None

    def statistics(self) -> dict[str, object]:
        """Return what the engine is doing."""
        return {
            "connections": len(self._shared.connections),
            "running": self._pool.busy,
            "waiting": self._pool.waiting(),
            "requests": self._shared.number,
            "draining": self._shared.draining,
        }


def _begin(state: list[Any], server: object) -> None:
    """What `eventlet.wsgi.server` calls as its protocol: the connection lives on in the hub."""
    del server
    state[1].begin()


def _stay(*_: object) -> None:
    """Replacement for `switch` and `throw` of other requests' green threads in a forked child."""


def _begun(conn: connection.Connection) -> bool:
    """Whether a request, or a part of its head, has come."""
    return conn.exchange is not None or conn.head is not None


def _describe(conn: connection.Connection) -> str:
    """One request that is being cut."""
    exchange, head = conn.exchange, conn.head
    if exchange is None or head is None:
        line = head.line.decode("latin-1").rsplit(" ", 1)[0] if head is not None else "-"
        return f"{line} (waiting for a slot)"
    age = (time.monotonic_ns() - exchange.started) / 1e9
    return f"{head.line.decode('latin-1').rsplit(' ', 1)[0]} {age:.1f} s {exchange.request_id}"


def _request_id() -> str | None:
    """The id of the request that the running green thread answers, as the application knows it; None outside of one.

    A green thread that the application spawns is another one: what it logs carries no id.
    """
    exchange = getattr(getattr(greenlet.getcurrent(), "work", None), "exchange", None)
    return exchange.request_id if isinstance(exchange, Exchange) else None
