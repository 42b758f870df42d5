"""A small process that forks engines, one for each kind of engine and session of tests.

An engine that is forked from pytest is a copy of pytest: monkey_patch searches all of its objects for locks, which takes
seconds, and the engine has loaded what no worker has. The forge has loaded the server and nothing else, and has called
monkey_patch once; what each engine then does by itself (`engines.prepare`) takes milliseconds.

An application is sent as its name: it is a function of a module in tests/support/apps, or a functools.partial of one, or an
object that pickle can take apart. It is imported in the engine's process, after `engines.prepare`, as a worker does.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import logging
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support import processes

ROOT = pathlib.Path(__file__).parent.parent.parent

_Socket, _fork, _waitpid = socket.socket, os.fork, os.waitpid  # as they are before monkey_patch
_recv_fds = socket.recv_fds


@dataclasses.dataclass(frozen=True)
class Order:
    """What an engine shall be.

    Attributes:
        row: its row of the scoreboard. log: path of the file for its log and its standard error.
        app: the pickled application. prepare: a pickled function that is called first, or None.
        settings, tls: of the server. deadline: seconds for a drain.
    """

    row: int
    log: str
    app: bytes
    prepare: bytes
    settings: Http
    tls: Tls | None
    deadline: float


class Forge:
    """The process, from the side of the tests."""

    def __init__(self, engine: str) -> None:
        """Start it; engines that it forks become children of the caller, which has to be a subreaper."""
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests.support import forge; forge.main({engine!r})"
        with theirs:
            command = [sys.executable, "-W", "ignore", "-c", code]
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=subprocess.DEVNULL)
        processes.LASTING.add(self._process.pid)

    def fork(self, order: Order, board: scoreboard.Scoreboard, sock: socket.socket) -> int:
        """Fork an engine that serves a listening socket; returns its pid."""
        socket.send_fds(self._sock, [pickle.dumps(order)], [*board.fds, sock.fileno()])
        return int(self._sock.recv(100))

    def close(self) -> None:
        """End it."""
        self._sock.close()
        self._process.wait()
        processes.LASTING.remove(self._process.pid)


@functools.cache
def forge(engine: str) -> Forge:
    """Return the forge of this process for a kind of engine; it ends with this process."""
    made = Forge(engine)
    atexit.register(made.close)
    return made


def main(engine: str) -> None:
    """Fork engines as ordered on descriptor 0, until that one ends."""
    from apid.server import server
    from apid.server.engines import prepare

    if engine == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    orders = _Socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    while True:
        data, fds, _, _ = _recv_fds(orders, 1 << 20, 3)
        if not data:
            return
        pid = _orphan(functools.partial(_live, engine, pickle.loads(data), fds, prepare, server.Server))
        for fd in fds:
            os.close(fd)
        orders.send(str(pid).encode())


def _orphan(function: Callable[[], object]) -> int:
    """Call a function in a process whose parent is not this one, once this returns, but the subreaper above; returns the pid."""
    reading, writing = os.pipe()
    middle = _fork()
    if not middle:
        pid = _fork()
        if not pid:
            function()
        os.write(writing, str(pid).encode())
        os._exit(0)
    _waitpid(middle, 0)
    pid = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)
    return pid


def _live(engine: str, order: Order, fds: list[int], prepare: Callable[..., Any], server: type) -> None:
    """Be an engine; does not return."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.closerange(3, min(fds))
        os.dup2(os.open(order.log, os.O_WRONLY | os.O_APPEND), 2)
        warnings.simplefilter("ignore")
        code = _serve(engine, order, fds, prepare, server)
    except BaseException:  # noqa: BLE001 -- a process of a test must end here, whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _serve(name: str, order: Order, fds: list[int], prepare: Callable[..., Any], server_class: type) -> int:
    logging.getLogger().handlers[:] = [logging.FileHandler(order.log)]
    logging.getLogger().setLevel(logging.DEBUG)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    bell, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    board = scoreboard.Scoreboard.attach(fds[0], fds[1])
    assert board is not None
    row = board.row(order.row)
    engine = prepare(name, order.settings.pool_size, row)
    app = pickle.loads(order.app)
    if (condition := pickle.loads(order.prepare)) is not None:
        condition()
    server = server_class(engine, order.settings, row, environ={}, multiprocess=True)
    server.serve("main", _Socket(fileno=fds[2]), app, order.tls)

    def live() -> int:
        row.cells[scoreboard.STATE] = scoreboard.State.READY
        while True:
            engine.wait_readable(bell.fileno())
            number = bell.recv(1)[0]
            if number == signal.SIGUSR1:
                server.reopen()
                continue
            cut = server.drain(order.deadline, successor=number == signal.SIGTERM)
            server.close()
            for text in cut:
                logging.getLogger("cut").warning("cut: %s", text)
            return 1 if cut else 0

    code: int = engine.main(live, lambda: None, 10.0)
    return code
