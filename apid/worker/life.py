"""A worker's life and end: serve, listen to the parent and to signals, ask to be recycled, drain, leave.

Imported in a worker only, after monkey_patch. Signals never run code here: their numbers come through a socket that a green
thread reads, because a Python handler would run inside whatever green thread is current (and could neither log nor lock).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import signal
import socket
import sys
import traceback
from typing import Any

import eventlet
import greenlet
from eventlet import event, greenio, hubs

from apid import channel, log, scoreboard
from apid.errors import ApidError, ExitCode
from apid.http.engine import Engine
from apid.loggers import logger
from apid.posix import processes, signals
from apid.worker.offload import offload
from apid.worker.status import Status

LOG = logger("apid.worker")

SIGNALS = (
    signal.SIGTERM,
    signal.SIGQUIT,
    # what a terminal sends to the whole group is the parent's to decide about
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)

DEAF = 0.005
"""Seconds between two looks whether a drain has closed the listeners: a reload's verdict waits for it."""

LOOK = 0.5
"""Seconds between two looks at what recycling depends on."""


class Life:
    """One worker that serves."""

    def __init__(self, ticket: channel.Ticket, apps: dict[str, Any], report: dict[str, Any]) -> None:
        self._ticket = ticket
        self._apps = apps
        self._report = report
        self._inline = ticket.channel is None
        self._leave: event.Event = event.Event()
        # A forked worker writes its stacks at USR2 (faulthandler); inline nobody asks for them, and the default would end it.
        self._bell = signals.SignalSocket((*SIGNALS, signal.SIGUSR2) if self._inline else SIGNALS)
        self._channel = greenio.GreenSocket(ticket.channel) if ticket.channel is not None else None
        settings = ticket.settings
        self._engine = Engine(
            settings.http,
            ticket.row,
            environ={"apid.offload": offload, "apid.worker": self._identity(), "apid.status": Status(ticket)},
            multiprocess=not self._inline,
        )

    def run(self) -> int:
        """Serve until told to leave; returns the exit code."""
        daemon = self._ticket.settings.daemon
        for listener in self._ticket.settings.listeners:
            for sock in self._ticket.listeners[listener.name]:
                self._engine.serve(listener.name, sock, self._apps[listener.name], listener.tls, listener.http)
        eventlet.spawn(self._hear_signals)
        if self._channel is not None:
            eventlet.spawn(self._hear_parent, self._channel)
        if daemon.max_requests or daemon.max_worker_rss:
            eventlet.spawn(self._watch_age)
        self._ticket.row.cells[scoreboard.STATE] = scoreboard.State.READY
        signals.unblock_all()
        if not self._inline:
            processes.die_with_parent(False)  # from here on its death is the end of the channel, and a reason to drain
        if self._inline:
            LOG.info("ready: serving inline, without workers")
        self._say(channel.Ready(self._report))
        order: channel.Drain = self._leave.wait()
        self._ticket.row.cells[scoreboard.STATE] = scoreboard.State.DRAINING
        eventlet.spawn(self._tell_when_deaf)
        cut = self._engine.drain(order.deadline or math.inf, successor=order.successor, listeners=order.listeners)
        self._engine.close()
        self._say(channel.DrainDone(cut))
        if self._inline and cut:
            LOG.warning("the drain deadline cut: %s", "; ".join(cut))
            return ExitCode.CUT
        return ExitCode.OK

    def _tell_when_deaf(self) -> None:
        while self._engine.listening:
            eventlet.sleep(DEAF)
        self._say(channel.Draining())

    def _identity(self) -> dict[str, int]:
        return {"slot": self._ticket.slot, "generation": self._ticket.generation, "pid": os.getpid()}

    # ---- orders ----

    def _leave_with(self, order: channel.Drain) -> None:
        if not self._leave.ready():
            self._leave.send(order)

    def _hear_parent(self, sock: greenio.GreenSocket) -> None:
        while True:
            try:
                packet = sock.recv(channel.MAX_MESSAGE + 1)
            except OSError:
                packet = b""
            if not packet:
                LOG.warning("the parent is gone: draining")
                daemon = self._ticket.settings.daemon
                self._leave_with(channel.Drain(daemon.graceful_shutdown_timeout, successor=False))
                return
            try:
                self._obey(channel.decode(packet))
            except channel.ChannelError as error:
                LOG.error("%s", error)  # noqa: TRY400 - a traceback would say nothing more

    def _obey(self, message: channel.Message) -> None:
        match message:
            case channel.Drain():
                self._leave_with(message)
            case channel.DrainSoon():
                self._engine.drain_soon()
            case channel.Reopen():
                self._reopen()
            case channel.Dump():
                self._dump()
                self._say(channel.Dumped())

    def _reopen(self) -> None:
        error = ""
        try:
            log.reopen()
            self._engine.reopen()
        except (ApidError, OSError) as problem:
            error = str(problem)
            LOG.error("%s", error)  # noqa: TRY400 - a traceback would say nothing more
        self._say(channel.Reopened(error))

    def _dump(self) -> None:
        """Write the stacks of all green threads to the log, as one block."""
        import gc

        blocks = ["".join(traceback.format_stack(found.gr_frame)) for found in gc.get_objects() if _suspended(found)]
        blocks.append("".join(traceback.format_stack(sys._getframe())))  # noqa: SLF001 - its only name
        LOG.info("%d green threads", len(blocks), extra={"block": "\n".join(blocks)})

    def _hear_signals(self) -> None:
        while True:
            hubs.trampoline(self._bell.fileno(), read=True)
            for signum in self._bell.read():
                if signum == signal.SIGQUIT or (self._inline and signum == signal.SIGINT):
                    self._now()
                elif signum == signal.SIGTERM:
                    self._term()
                elif self._inline and signum == signal.SIGUSR1:
                    self._reopen()
                elif self._inline:
                    LOG.warning("%s has no meaning when serving inline (workers = 0)", signals.name(signum))

    def _term(self) -> None:
        if self._leave.ready():
            if self._inline:
                self._now()
            return
        LOG.info("received SIGTERM: draining")
        daemon = self._ticket.settings.daemon
        if self._inline and daemon.drain_delay:
            self._engine.drain_soon()
            eventlet.sleep(daemon.drain_delay)
        self._leave_with(channel.Drain(daemon.graceful_shutdown_timeout, successor=not self._inline))

    def _now(self) -> None:
        """Stop now: flush the logs and be gone; requests in flight are lost, which is what was asked for."""
        self._engine.close()
        logging.shutdown()
        os._exit(ExitCode.OK)

    def _say(self, message: channel.Message) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError, socket.timeout):
                self._channel.send(channel.encode(message))

    # ---- recycling ----

    def _watch_age(self) -> None:
        """Ask the parent once for a successor when this worker has served, or grown, enough."""
        daemon = self._ticket.settings.daemon
        most = daemon.max_requests and daemon.max_requests + random.randint(0, daemon.max_requests_jitter)  # noqa: S311 - no secret
        cells = self._ticket.row.cells
        while True:
            eventlet.sleep(LOOK)
            if most and cells[scoreboard.REQUESTS] >= most:
                self._say(channel.RecycleAsked("recycle"))
                return
            if daemon.max_worker_rss and processes.resident_bytes() >= daemon.max_worker_rss:
                self._say(channel.RecycleAsked("rss"))
                return


def _suspended(found: object) -> bool:
    """Whether an object is a green thread that has run and now waits; isinstance would touch proxies of the application."""
    return issubclass(type(found), greenlet.greenlet) and found.gr_frame is not None  # type: ignore[attr-defined]  # narrowed by type()
