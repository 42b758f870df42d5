"""Several starts at once on one path: `python -m tests.support.masters KIND DIRECTORY ROUNDS` prints what is wrong.

In each round some processes take the path of a UNIX listener, a control socket or a pid file. One has to get it, and a client has
to reach that one. The files of the process that held it before are removed, stale, or being removed at that very moment.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from apid.conf.settings import Address, Daemon, Http, Listener, Log, Paste, Settings
from apid.errors import ApidError
from apid.parent.control import Control
from apid.parent.listeners import Listeners
from apid.posix.pidfile import PidFile

N = 8
"""Processes at once."""


def take(kind: str, path: str) -> tuple[socket.socket | None, Callable[[], None]]:
    """The socket that clients reach, and how the path is given back."""
    if kind == "pid file":
        pid_file = PidFile(path)
        return None, pid_file.remove
    if kind == "control socket":
        control = Control(path)
        return control.server, lambda: control.end(unlink=True)
    listeners = Listeners()
    listener = Listener("main", (Address("unix", path=path),), Paste("/x.ini", "main"))
    places, _ = listeners.bind(Settings(Daemon(workers=1), Http(), Log(), (listener,)))
    return listeners.of(places["main"])[0], listeners.close


def start(kind: str, path: str, go: int, said: int, leave: int) -> None:
    """One process: it waits for `go`, takes the path, says so, and serves its pid until `leave` is closed."""
    os.read(go, 1)
    try:
        sock, give_back = take(kind, path)
    except ApidError as error:
        os.write(said, f"{os.getpid()} refused {error}\n".encode())
        os._exit(int(error.exit_code))
    os.write(said, f"{os.getpid()} has it\n".encode())
    while sock is not None and leave not in select.select([sock, leave], [], [])[0]:
        with contextlib.suppress(OSError), sock.accept()[0] as client:  # one that only looks has gone
            client.sendall(str(os.getpid()).encode())
    os.read(leave, 1)
    give_back()
    os._exit(0)


def reached(kind: str, path: str) -> str:
    """The pid of the process that a client finds."""
    if kind == "pid file":
        return pathlib.Path(path).read_text(encoding="utf-8").strip()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        return client.recv(64).decode()


class Round:
    """N starts at once; `former` ends in the same moment, if it is given."""

    def __init__(self, kind: str, path: str, former: Round | None = None) -> None:
        self.kind, self.path = kind, path
        (go, start_all), (words, said), (leave, self.leave_all) = os.pipe(), os.pipe(), os.pipe()
        self.pids = []
        for _ in range(N):
            pid = os.fork()
            if pid == 0:
                for fd in (start_all, words, self.leave_all, *([former.leave_all] if former else [])):
                    os.close(fd)
                start(kind, path, go, said, leave)
            self.pids.append(pid)
        for fd in (go, said, leave):
            os.close(fd)
        os.close(start_all)
        if former is not None:
            os.close(former.leave_all)
        with open(words, encoding="utf-8") as file:
            self.lines = [file.readline() for _ in range(N)]
        self.winners = [int(line.split()[0]) for line in self.lines if line.endswith("has it\n")]
        self.nobody = former is not None
        """Whether it may be that no start got the path."""

    def problem(self, former: int) -> str:
        """What is wrong while they live; `former` had the path before."""
        if len(self.winners) != 1:
            return "" if not self.winners and self.nobody else f"{len(self.winners)} have it: {self.lines}"
        (winner,) = self.winners
        for line in self.lines:
            if " refused " in line and f"process {winner}" not in line and not (self.nobody and f" {former}" in line):
                return f"{winner} is not named: {line}"
        try:
            found = reached(self.kind, self.path)
        except OSError as error:
            return f"{winner} has it and is not reached: {error}"
        return "" if found == str(winner) else f"{found} answers, {winner} has it"

    def end(self) -> str:
        """Reap all; returns what is wrong."""
        codes = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids}
        refused = {code for pid, code in codes.items() if pid not in self.winners}
        return "" if refused <= {2 if self.kind == "pid file" else 3} else f"exit codes {codes}"


def rounds(kind: str, path: str, number: int) -> Iterator[str]:
    """Yield what is wrong in this many rounds: the holder is killed, or ends, or ends while others start."""
    former: Round | None = None
    for at in range(number):
        one = Round(kind, path, former)
        ended = former.end() if former else ""
        yield f"{at}: {one.problem(former.winners[0] if former else 0) or ended}"
        former = None
        if at % 3 == 0 and one.winners:
            former = one
            continue
        if at % 3 == 1:
            for winner in one.winners:
                os.kill(winner, signal.SIGKILL)
        os.close(one.leave_all)
        yield f"{at}: {one.end()}"
        left = [entry.name for entry in pathlib.Path(path).parent.iterdir()]
        yield f"{at}: {left} left" if at % 3 == 2 and left else ""
    if former is not None:
        os.close(former.leave_all)
        former.end()


if __name__ == "__main__":
    what, directory, count = sys.argv[1:]
    for trouble in rounds(what, f"{directory}/path", int(count)):
        if not trouble.endswith(": ") and trouble:
            sys.stdout.write(trouble[:1000] + "\n")
