"""A worker's life and end: serve, listen to the parent and to signals, ask to be recycled, drain, leave.

Imported in a worker only, after the engine. Signals never run code here: their numbers come through a pipe that a thread of the
engine's reads, because a Python handler would run inside whatever the main thread does (and could neither log nor lock).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
import signal
import socket
import time
from typing import Any

from apid import channel, log, scoreboard
from apid.errors import ApidError, ExitCode
from apid.flight import in_words
from apid.loggers import logger
from apid.posix import processes, signals
from apid.server import access_log
from apid.server.engines import base
from apid.server.server import Server
from apid.worker import ending, gil
from apid.worker.shield import LOOK, TIMERS, Shield
from apid.worker.status import Status

LOG = logger("apid.worker")


FULL = 0.05
"""Seconds between two attempts to send when the channel is full."""


WEIGH = 2.0
"""Seconds between two looks at how much memory this worker shares with others."""

WEIGH_SHARE = 1000
"""And at least that many times the duration of such a look: the kernel walks all pages of the process."""


class Life:
    """One worker that serves."""

    def __init__(
        self, ticket: channel.Ticket, apps: dict[str, Any], ready: channel.Ready, shield: Shield, engine: base.Engine
    ) -> None:
        """Open and load what serving needs; a trial does the same, and then ends.

        Raises:
            ConfigError: the access log, a certificate or a key cannot be used.
        """
        self._ticket = ticket
        self._apps = apps
        self._ready = ready
        self._inline = ticket.channel is None
        self._orphaned = False
        self._engine = engine
        self._leave = engine.event()
        self._shield = shield
        self._bell = shield.bell or shield.ring(inline=True)
        self._until = math.inf
        self._lost = False
        settings = ticket.settings
        # Not the global generator: an application may have seeded it with the same value in all workers.
        jitter = random.SystemRandom().randint(0, settings.daemon.max_requests_jitter)
        self._most = settings.daemon.max_requests and settings.daemon.max_requests + jitter
        self._asked = False
        self._weigh_at = 0.0
        self._unexpected: set[int] = set()
        # Not a green socket: that would adopt the timeout that an application sets with socket.setdefaulttimeout.
        self._channel = ticket.channel
        http = settings.http
        if ticket.trial:  # a check leaves no files behind, least of all ones of another user than the daemon's
            access_log.check(http)
            http = dataclasses.replace(http, access_log="off")
        with shield.umask():
            self.server = Server(
                engine,
                http,
                ticket.row,
                environ={
                    "apid.worker": self._identity(),
                    "apid.status": Status(ticket),
                    "apid.draining": lambda: ticket.board.leaving or self._orphaned,
                },
                multiprocess=not self._inline,
            )
        for listener in settings.listeners:
            if listener.tls is not None:
                self.server.context(listener.tls)

    def run(self) -> int:
        """Serve until told to leave; returns the exit code."""
        for listener in self._ticket.settings.listeners:
            for sock in self._ticket.listeners[listener.name]:
                self.server.serve(listener.name, sock, self._apps[listener.name], listener.tls, listener.http)
        self._engine.spawn(self._hear_signals)
        if self._channel is not None:
            self._engine.spawn(self._hear_parent, self._channel)
        if not self._inline:
            processes.die_with_parent(False)  # from here on its death is the end of the channel, and a reason to drain
        return self._engine.main(self._live, self._look, LOOK)

    def _live(self) -> int:
        self._ticket.row.cells[scoreboard.GIL_OFF] = not gil.is_enabled()
        self._ticket.row.cells[scoreboard.STATE] = scoreboard.State.READY
        if self._inline:
            LOG.info("ready: serving inline, without workers")
            for warning in self._ready.warnings:
                LOG.warning("%s", warning)
        self._say(self._ready)
        order: channel.Drain = self._leave.wait()
        cells = self._ticket.row.cells
        cells[scoreboard.UNTIL_NS] = int((time.monotonic() + order.deadline) * 1e9) if order.deadline else 0
        cells[scoreboard.STATE] = scoreboard.State.DRAINING
        self._shield.disown(sock.fileno() for group in self._ticket.listeners.values() for sock in group)
        self._until = time.monotonic() + (order.deadline or math.inf)
        cut = self.server.drain(
            order.deadline or math.inf,
            successor=order.successor,
            addresses=order.addresses,
            deaf=lambda: self._say(channel.Draining()),
        )
        self.server.close()
        self._say(channel.DrainDone(cut))
        if cut and (self._inline or self._orphaned):  # nobody else could log it
            LOG.warning("the drain deadline cut: %s", "; ".join(cut))
        if self._inline and cut:
            return ExitCode.CUT
        return ExitCode.BUG if self._lost else ExitCode.OK

    def patience(self) -> float:
        """Return the seconds that the exit functions may take."""
        return min(ending.AT_MOST, max(ending.AT_LEAST, self._until - time.monotonic()))

    def _identity(self) -> dict[str, int]:
        return {"slot": self._ticket.slot, "generation": self._ticket.generation, "pid": os.getpid()}

    # ---- orders ----

    def _leave_with(self, order: channel.Drain) -> None:
        if not self._leave.ready():
            self._leave.send(order)

    def _hear_parent(self, sock: socket.socket) -> None:
        while True:
            try:
                self._engine.wait_readable(sock.fileno())
                packet = sock.recv(channel.MAX_MESSAGE + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                packet = b""
            except OSError:
                if self._shield.lost():
                    return  # the application closed it, not the parent: `_look` notices
                self._engine.sleep(FULL)  # raised by a signal handler of the application, for example a TimeoutError
                continue
            if not packet:
                LOG.warning("the parent is gone: draining")
                self._orphaned = True
                self._leave_with(channel.Drain(self._ticket.settings.daemon.graceful_shutdown_timeout, successor=False))
                return
            try:
                self._obey(channel.decode(packet, channel.Sender.PARENT))
            except channel.ChannelError as error:
                LOG.error("%s", error)  # noqa: TRY400 - a traceback would say nothing more
            except Exception:
                LOG.exception("a request of the parent failed")

    def _obey(self, message: channel.Message) -> None:
        match message:
            case channel.Drain():
                self._leave_with(message)
            case channel.Reopen():
                self._reopen()
            case channel.Dump():
                self._say(channel.Dumped(self._dump()))

    def _reopen(self) -> None:
        error = ""
        try:
            with self._shield.umask():
                log.reopen()
                self.server.reopen()
        except (ApidError, OSError) as problem:
            error = str(problem)
            LOG.error("%s", error)  # noqa: TRY400 - a traceback would say nothing more
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
            LOG.exception("the log files cannot be reopened")
        self._say(channel.Reopened(error))

    def _dump(self) -> str:
        """Write the stacks of all threads to the log, as one block; returns why that failed, or an empty string."""
        try:
            blocks = self._engine.stacks()
        except Exception as problem:
            LOG.exception("the stacks cannot be collected")
            return f"{type(problem).__name__}: {problem}"
        LOG.info("stacks of %d threads", len(blocks), extra={"block": "\n".join(blocks)})
        return ""

    def _hear_signals(self) -> None:
        while True:
            if not self._engine.wait_readable(self._bell.fileno()):
                return  # as in _hear_parent
            for signum in self._bell.read():
                if signum == signal.SIGQUIT or (self._inline and signum == signal.SIGINT):
                    self._now()
                elif signum == signal.SIGTERM:
                    self._term()
                elif self._inline and signum == signal.SIGUSR1:
                    self._reopen()
                elif not self._bell.handles(signum):
                    continue  # the application's
                elif signum in TIMERS:
                    if signum not in self._unexpected:  # it may come many times a second
                        self._unexpected.add(signum)
                        LOG.warning("received %s, for which the application has no handler", signals.name(signum))
                elif self._inline:
                    LOG.warning("%s has no meaning when serving inline (workers = 0)", signals.name(signum))

    def _term(self) -> None:
        if self._leave.ready():
            if self._inline:
                self._now()
            return
        LOG.info("received SIGTERM: draining")
        daemon = self._ticket.settings.daemon
        if self._inline:
            self._ticket.board.leaving = True
            self._engine.sleep(daemon.drain_delay)
        self._leave_with(channel.Drain(daemon.graceful_shutdown_timeout, successor=not self._inline))

    def _now(self) -> None:
        """Stop now: name what is lost, flush the logs and be gone."""
        lost = self.server.lose()
        self._say(channel.DrainDone(lost))
        if self._inline and lost:
            LOG.warning("the stop now cut: %s", in_words(lost))
        self.server.close()
        logging.shutdown()
        os._exit(ExitCode.CUT if self._inline and lost else ExitCode.OK)

    def _say(self, message: channel.Message) -> None:
        while not self._send(message):
            self._engine.sleep(FULL)

    def _send(self, message: channel.Message) -> bool:
        """Send a message, unless the channel is full; without a parent it is lost."""
        if self._channel is not None:
            try:
                self._channel.send(channel.encode(message), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                pass
        return True

    # ---- what is looked at now and then ----

    def _look(self) -> None:
        """Restore what the application must not change, and check whether to be recycled."""
        lost = self._shield.lost()
        if not lost:
            self._shield.hold()
        if self._leave.ready():
            return  # it leaves already
        self._weigh()
        if lost:
            self._lost = True
            LOG.critical("the application has closed descriptors of the worker: %s; the worker leaves", lost)
            self._leave_with(channel.Drain(self._ticket.settings.daemon.graceful_shutdown_timeout, successor=True))
        if not self._asked and (cause := self._old()):
            self._asked = True  # whatever a signal handler raises here: asking twice violates the protocol
            self._asked = self._send(channel.RecycleAsked(cause))

    def _old(self) -> str:
        """Return why this worker is due for recycling; empty when it is not."""
        if self._most and self._ticket.row.cells[scoreboard.REQUESTS] >= self._most:
            return "recycle"
        if 2 * self.server.stuck() > self._ticket.settings.http.pool_size:
            return "stuck"
        most = self._ticket.settings.daemon.max_worker_rss
        return "rss" if most and self._ticket.row.cells[scoreboard.PRIVATE] >= most else ""

    def _weigh(self) -> None:
        """Note how much memory this worker has; nobody else looks: that waits for a lock which a process may hold for long."""
        began = time.monotonic()
        if began < self._weigh_at:
            return
        private, proportional = processes.memory()
        cells = self._ticket.row.cells
        cells[scoreboard.PRIVATE] = private or processes.resident_bytes()
        cells[scoreboard.PROPORTIONAL] = proportional
        now = time.monotonic()
        self._weigh_at = now + max(WEIGH, WEIGH_SHARE * (now - began))
