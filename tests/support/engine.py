"""An engine as a process of its own, serving an application of tests/support/apps on port 0 or a UNIX socket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import pickle
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.client import Connection
from tests.support.forge import Order, forge


class Engines:
    """Workers with one engine each, on one socket.

    Attributes:
        address: where they listen. rows: of the workers. pids: theirs. log: path of what they log.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        settings: Http,
        *,
        workers: int = 1,
        unix: str | None = None,
        tls: Tls | None = None,
        host: str = "127.0.0.1",
        prepare: Callable[[], None] | None = None,
        deadline: float = 10.0,
        engine: str = "eventlet",
    ) -> None:
        self._forge = forge(engine)
        self._order = Order(0, "", pickle.dumps(app), pickle.dumps(prepare), settings, tls, deadline)
        self._clients = contextlib.ExitStack()
        self.board = scoreboard.Scoreboard.create()
        if unix is not None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(unix)
            self.address: Any = unix
        else:
            self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.bind((host, 0))
            self.address = ("127.0.0.1" if host == "0.0.0.0" else host, self.sock.getsockname()[1])
        self.sock.listen(4096)
        self.sock.setblocking(False)
        fd, self.log = tempfile.mkstemp(prefix="engine-", suffix=".log")
        os.close(fd)
        self.rows = [self.board.row(index) for index in range(workers)]
        self.pids = [0] * workers
        try:
            for which in range(workers):
                self.fork(which)
            for which in range(workers):
                wait_for(functools.partial(self._is_ready, which), self.logged)
        except BaseException:
            self.close()
            raise

    def fork(self, which: int = 0) -> None:
        """Fork a worker, as the first one or after the end of another."""
        self.rows[which].clear()
        order = dataclasses.replace(self._order, row=which, log=self.log)
        self.pids[which] = self._forge.fork(order, self.board, self.sock)

    def _is_ready(self, which: int) -> bool:
        pid, status = os.waitpid(self.pids[which], os.WNOHANG)
        if pid:
            self.pids[which] = 0
            raise AssertionError(f"worker {which} has ended with {status} before it was ready:\n{self.logged()}")
        return bool(self.rows[which].cells[scoreboard.STATE] == scoreboard.State.READY)

    def connect(self, **options: Any) -> Connection:
        """Open a connection that is closed with the engine at the latest."""
        return self._clients.enter_context(Connection(self.address, **options))

    def logged(self) -> str:
        """What has been logged so far."""
        with open(self.log) as log:
            return log.read()

    def flushed(self, log: pathlib.Path) -> str:
        """Tell the workers to write their access log out and read it; they do so soon: look again."""
        for which in range(len(self.pids)):
            self.kill(signal.SIGUSR1, which)
        return log.read_text()

    def total(self, cell: int) -> int:
        """The sum of a counter over the workers."""
        return sum(row.cells[cell] for row in self.rows)

    def kill(self, number: int, which: int = 0) -> None:
        """Send a worker a signal. SIGTERM: drain with a successor; SIGHUP: without one; SIGUSR1: reopen the access log."""
        os.kill(self.pids[which], number)

    def wait(self, which: int = 0, timeout: float = 15.0) -> int:
        """Wait for a worker's end; returns its exit code."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pids[which], os.WNOHANG)
            if pid:
                self.pids[which] = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        raise AssertionError(f"worker {which} has not ended in {timeout} s; its log:\n{self.logged()}")

    def close(self) -> None:
        """End everything."""
        self._clients.close()
        for pid in self.pids:
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if self.sock.fileno() >= 0:
            self.sock.close()
        for fd in self.board.fds:
            os.close(fd)
        pathlib.Path(self.log).unlink()
        if isinstance(self.address, str):
            pathlib.Path(self.address).unlink()


@contextlib.contextmanager
def serving(app: Callable[..., Any], settings: Http | None = None, **options: Any) -> Iterator[Engines]:
    """Serve an application for the length of a `with`."""
    engines = Engines(app, settings or Http(), **options)
    try:
        yield engines
    finally:
        engines.close()


def wait_for(condition: Callable[[], Any], explain: Callable[[], str] = str, timeout: float = 10.0) -> Any:
    """Wait until a condition holds, and return what it gave."""
    until = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {timeout} s: {explain()}")
        time.sleep(0.005)
    return found
