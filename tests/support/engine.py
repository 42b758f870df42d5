"""An engine as a process of its own: forked, with its own hub, serving an application of the test on port 0 or a UNIX socket."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.client import Connection

DRAIN = signal.SIGTERM
"""To a worker: drain with a successor; SIGHUP: without one."""


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
        engine: str = os.environ.get("ENGINE", "eventlet"),
    ) -> None:
        self._engine = engine
        self._app = app
        self._settings = settings
        self._tls = tls
        self._prepare = prepare
        self._deadline = deadline
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
        self.pids = [self._fork(row) for row in self.rows]
        try:
            for row in self.rows:
                wait_for(lambda row=row: row.cells[scoreboard.STATE] == scoreboard.State.READY, self.logged)
        except BaseException:
            self.close()
            raise

    def _fork(self, row: scoreboard.Row) -> int:
        row.clear()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            code = self._work(row)
        except BaseException:  # noqa: BLE001 -- a child of a test must end here, whatever happened
            with open(self.log, "a") as log:
                traceback.print_exc(file=log)
        finally:
            os._exit(code)

    def _work(self, row: scoreboard.Row) -> int:
        import logging
        import warnings

        warnings.simplefilter("ignore")
        os.setpgid(0, 0)
        handler = logging.FileHandler(self.log)
        logging.getLogger().handlers[:] = [handler]
        logging.getLogger().setLevel(logging.DEBUG)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        bell, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        if self._engine == "eventlet":
            _shorten_patching()
        from apid.server import engines
        from apid.server.server import Server

        engine = engines.prepare(self._engine, self._settings.pool_size, row)
        if self._prepare is not None:
            self._prepare()
        server = Server(engine, self._settings, row, environ={}, multiprocess=True)
        server.serve("main", self.sock, self._app, self._tls)

        def live() -> int:
            row.cells[scoreboard.STATE] = scoreboard.State.READY
            while True:
                engine.wait_readable(bell.fileno())
                number = bell.recv(1)[0]
                if number == signal.SIGUSR1:
                    server.reopen()
                    continue
                cut = server.drain(self._deadline, successor=number == signal.SIGTERM)
                server.close()
                for text in cut:
                    logging.getLogger("cut").warning("cut: %s", text)
                return 1 if cut else 0

        return engine.main(live, lambda: None, 10.0)

    def connect(self, **options: Any) -> Connection:
        """Open a connection that is closed with the engine at the latest."""
        return self._clients.enter_context(Connection(self.address, **options))

    def logged(self) -> str:
        """What has been logged so far."""
        with open(self.log) as log:
            return log.read()

    def total(self, cell: int) -> int:
        """The sum of a counter over the workers."""
        return sum(row.cells[cell] for row in self.rows)

    def kill(self, number: int, which: int = 0) -> None:
        """Send a worker a signal."""
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


def _shorten_patching() -> None:
    """Make monkey_patch quick, which is called once a worker here.

    It would look for locks in all that can be reached from sys.modules, for a whole test session seconds of work in each worker.
    A lock that stays native lets every green thread through, which is good enough for the log of a test.
    """
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"  # halves the time of its import; no test resolves a name
    from eventlet import patcher

    patcher._green_existing_locks = lambda _kind: None


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
