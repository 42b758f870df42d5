"""The daemon of a session, what its configuration says, and what must hold after each action."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.chaos.account import Account
from tests.chaos.wish import EXTRA, Files, Wish
from tests.support import processes
from tests.support.client import Address, Connection
from tests.support.daemon import Daemon
from tests.support.processes import wait_until

LONG = 120.0
"""Seconds that a single change may take: a machine that is three times slower and shared must pass."""


class Broken(AssertionError):
    """The daemon broke a promise; the text says which."""


def free_port(taken: set[int]) -> int:
    """Find a free port below the ephemeral range, where no client's own port can be in the way."""
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(10000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                return port


class World:
    """One daemon after another in one directory.

    Attributes:
        written: what the files say. applied: what the daemon said it has committed.
        wanted: the number of workers that the daemon was told last.
        recovering: how many actions run that may leave too few workers.
        logs: every file that a daemon logged to. starts: daemons so far.
    """

    def __init__(self, directory: pathlib.Path, note: Callable[[str], None]) -> None:
        ports: dict[str, int] = {}
        for name in ("main", "second", "secure"):
            ports[name] = free_port(set(ports.values()))
        self.files = Files(directory, ports)
        self.note = note
        self.account = Account()
        self.written = self.applied = Wish()
        self.wanted = self.written.workers
        self.daemon: Daemon = None  # type: ignore[assignment] # set by start
        self.logs: list[pathlib.Path] = []
        self.starts = 0
        self.started = 0.0
        self.serving = False
        self.recovering = 0
        self.removing: frozenset[str] = frozenset()
        self.others = processes.children()
        """Children that are not the session's."""

    # -- for clients

    def address(self, listener: str) -> Address | None:
        """Where clients find a listener now; None while it is not there."""
        there = {"main", *(self.applied.extra & self.written.extra)} - self.removing
        return self.files.address(listener) if listener in there and self.serving else None

    # -- life

    def write(self, **changed: object) -> None:
        """Write all files with these fields of the wish changed."""
        self.written = dataclasses.replace(self.written, **changed)  # type: ignore[arg-type]  # its values are of several types
        self.account.newest = max(self.account.newest, self.written.version)
        self.files.write(self.written)

    def with_version(self) -> Wish:
        """What is written, with new content."""
        return dataclasses.replace(self.written, version=self.written.version + 1)

    def start(self) -> None:
        """Start a daemon with what is written, and wait until it serves."""
        self.starts += 1
        self.started = time.monotonic()
        self.write()
        self.daemon = Daemon(self.files.directory, environment={"PYTHONDONTWRITEBYTECODE": "1"})
        self.files.write(self.written)  # the harness has written a configuration of its own
        self.daemon.log_path = self.files.directory / f"daemon-{self.starts}.log"
        self.daemon.control = self.files.directory / self.written.control_socket
        self.logs.append(self.daemon.log_path)
        self.daemon.launch()
        wait_until(self._listens, "the control socket answers", LONG, 0.05)
        self.accept()
        self.settled()
        self.serving = True

    def _listens(self) -> bool:
        if self.daemon.process is None or self.daemon.process.poll() is not None:
            raise Broken(f"the daemon ended with {self.daemon.process and self.daemon.process.returncode} at its start")
        with contextlib.suppress(OSError, AssertionError):
            return bool(self.status())
        return False

    def accept(self) -> None:
        """The daemon has committed what is written."""
        self.applied = self.written
        self.wanted = self.applied.workers
        self.daemon.control = self.files.directory / self.applied.control_socket
        if self.applied.log_file:
            self.logs.append(self.files.directory / self.applied.log_file)
        self.account.publish(self.applied.version)

    def alive(self) -> None:
        """Fail when the parent has ended."""
        process = self.daemon.process
        if process is None or process.poll() is not None:
            raise Broken(f"the parent has ended with {process and process.returncode}")

    def status(self) -> dict[str, Any]:
        """The status document; it must come soon, whatever the daemon is doing."""
        end = time.monotonic() + 60
        while True:
            try:
                data: dict[str, Any] = self.daemon.ask("status", timeout=60)["data"]
            except BlockingIOError:  # unix(7): the queue of the socket is full, and this one does not block
                if time.monotonic() > end:
                    raise Broken("the control socket accepts nobody for 60 s") from None
                time.sleep(0.05)
            else:
                return data

    def ask(self, command: str, **more: object) -> dict[str, Any]:
        """Ask and wait for the verdict, which must have a text."""
        try:
            verdict = self.daemon.ask(command, timeout=LONG, **more)
        except (OSError, AssertionError) as error:
            self.alive()
            raise Broken(f"{command} got no verdict: {type(error).__name__}: {str(error)[:300]}") from error
        self.note(f"    {command} {more or ''}: {'ok' if verdict['ok'] else 'failed'}: {verdict['text'][:160]!r}")
        if not verdict["ok"] and not verdict["text"]:
            raise Broken(f"{command} failed without a reason")
        return verdict

    # -- changes

    def change(self, expected: bool | None = True, how: str = "reload") -> bool:
        """Make the daemon take what is written, judge the verdict and what is served afterwards.

        Args:
            expected: the verdict; None: either, as long as it is true.
            how: `reload`, `upgrade`, `HUP` or `USR2`.

        Raises:
            Broken: the verdict is another one, or a lie.
        """
        self.removing = self.applied.extra - self.written.extra
        with contextlib.ExitStack() as stack:
            for listener in self.removing:
                stack.enter_context(self.account.disrupt("closing", listener=listener))
            ok, text = self._signalled(how) if how.isupper() else self._asked(how)
            self.removing = frozenset() if not ok else self.removing
        if expected is not None and ok != expected:
            raise Broken(f"{how} {'succeeded' if ok else 'failed'} against expectation: {text[:600]}")
        if ok:
            if how.isupper():
                # Only who asks over the control socket is told when the old workers have closed their listeners.
                self.wanted = self.written.workers
                self.daemon.control = self.files.directory / self.written.control_socket
                self.settled()
            self.accept()
        self.removing = frozenset()
        self.verify()
        return ok

    def _asked(self, command: str) -> tuple[bool, str]:
        verdict = self.ask(command)
        return bool(verdict["ok"]), str(verdict["text"])

    def _signalled(self, name: str) -> tuple[bool, str]:
        kind = "reload" if name == "HUP" else "upgrade"
        before = sum(self.status()["changes"][kind].values())
        self.daemon.signal(getattr(signal, f"SIG{name}"))
        old, new = self.daemon.control, self.files.directory / self.written.control_socket

        def done() -> dict[str, Any] | None:
            self.alive()
            for path in (old, new):
                self.daemon.control = path
                with contextlib.suppress(OSError, AssertionError):
                    status = self.status()
                    over = status["change"] is None and sum(status["changes"][kind].values()) > before
                    return status if over else None
            return None

        status = wait_until(done, f"the {kind} asked by {name} ends", LONG, 0.05)
        assert status
        last = status["last_change"]
        self.note(f"    {name}: {'ok' if last['ok'] else 'failed'}: {last['text'][:160]!r}")
        return bool(last["ok"]), str(last["text"])

    # -- truths

    @contextlib.contextmanager
    def short_of_workers(self) -> Iterator[None]:
        """Fewer workers than wanted may be ready until the body and `settled` after it are over."""
        self.recovering += 1
        try:
            yield
            self.settled()
        finally:
            self.recovering -= 1

    def settled(self, deadline: float = LONG) -> dict[str, Any]:
        """Wait until the daemon is at peace: one ready worker of one generation in each wanted seat, no change, nobody drains."""
        last: dict[str, Any] = {}

        def at_peace() -> bool:
            self.alive()
            with contextlib.suppress(OSError):
                last.update(self.status())
                workers = last["workers"]
                ready = [one for one in workers if one["stage"] == "ready" and one["generation"] == last["generation"]]
                seats = sorted(one["slot"] for one in ready)
                return (
                    last["phase"] == "running"
                    and last["change"] is None
                    and last["wanted"] == last["ready"] == self.wanted
                    and seats == list(range(self.wanted))
                    and len(ready) == len(workers)
                )
            return False

        try:
            wait_until(at_peace, "the daemon is at peace", deadline, 0.05)
        except AssertionError:
            workers = [(one["slot"], one["generation"], one["stage"], one["cause"]) for one in last.get("workers", [])]
            raise Broken(
                f"no peace within {deadline:g} s, {self.wanted} workers wanted: {last.get('line')!r}, {workers}"
            ) from None
        return last

    def verify(self) -> None:
        """Compare what the daemon says with what it does: after a change that it called ok, or failed."""
        status = self.status()
        here = status["generation"]
        if status["change"] is None:
            old = [
                one for one in status["workers"] if one["stage"] in {"ready", "booting"} and one["generation"] != here
            ]
            if old:
                raise Broken(f"workers of another generation than {here} still serve: {old}")
            engines = {
                one["engine"] for one in status["workers"] if one["stage"] == "ready" and one["generation"] == here
            }
            if engines - {self.applied.engine}:
                raise Broken(f"workers of generation {here} run {engines}, not {self.applied.engine}")
            if not self.recovering and status["ready"] != self.wanted:
                raise Broken(f"{status['ready']} workers of generation {here} are ready, not {self.wanted}")
        self.verify_listeners(status)
        self.verify_files()

    def verify_listeners(self, status: dict[str, Any]) -> None:
        """Each listener of the applied configuration serves its content; the others refuse."""
        names = {one["name"] for one in status["listeners"]}
        if names != {"main", *self.applied.extra}:
            raise Broken(f"listeners {sorted(names)} in status, not {sorted({'main', *self.applied.extra})}")
        for listener in ("main", *EXTRA):
            address = self.files.address(listener)
            if listener in {"main", *self.applied.extra}:
                if listener != "secure":
                    self.probe(listener, address)
            elif connects(address):
                raise Broken(f"{listener} was removed and still accepts connections")

    def probe(self, listener: str, address: Address) -> None:
        """Ask once, outside of the clients' account."""
        ident = f"probe.{listener}.{time.monotonic_ns()}"
        opened = time.monotonic()
        self.account.send([ident])
        with Connection(address, timeout=LONG) as connection:
            answer = connection.request("GET", f"/r/{ident}", headers={"Connection": "close"})
        if answer.status != 200 or answer.header("X-Id") != ident:
            raise Broken(f"{listener} answered {answer.status} {answer.body[:200]!r}")
        self.account.answered(ident, int(answer.header("X-Version") or 0), opened)

    def verify_files(self) -> None:
        """The pid file and the control socket are where the applied configuration has them, and nowhere else."""
        for path in self.files.directory.glob("pid-*"):
            if path.name == self.applied.pid_file:
                continue
            raise Broken(f"the pid file {path.name} was left")
        if self.applied.pid_file:
            path = self.files.directory / self.applied.pid_file
            text = path.read_text(encoding="ascii").strip() if path.exists() else "(missing)"
            if text != str(self.daemon.pid):
                raise Broken(f"the pid file {path.name} holds {text!r}, not {self.daemon.pid}")
        wanted = (self.applied.control_socket, f"{self.applied.control_socket}.lock")
        left = [one.name for one in self.files.directory.glob("control-*") if one.name not in wanted]
        if left:
            raise Broken(f"control sockets were left: {left}")

    def orphans(self) -> set[int]:
        """Living children of this process, which orphans become; the dead ones are reaped."""
        found = set()
        for pid in processes.children() - self.others:
            if processes.alive(pid):
                found.add(pid)
            elif pid != self.daemon.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return found

    def bury(self) -> None:
        """After the end of a parent: its workers leave, its ports are free; nothing lives on."""
        self.serving = False
        try:
            wait_until(lambda: not self.orphans(), "every process of the daemon is gone", LONG, 0.05)
        except AssertionError:
            left = {pid: processes.command(pid) for pid in self.orphans()}
            raise Broken(f"processes outlive the parent: {left}") from None
        for listener in ("main", "second", "secure"):
            address = self.files.address(listener)
            if connects(address):
                raise Broken(f"nobody lives, and {listener} accepts connections")

    def nothing_left(self) -> None:
        """After a stop: no socket file, no lock file, no pid file, no process, no port."""
        self.bury()
        patterns = ("control-*", "pid-*", "local.sock*", ".apid-*")
        left = sorted(path.name for pattern in patterns for path in self.files.directory.glob(pattern))
        if left:
            raise Broken(f"a stop left {left}")


def connects(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    with contextlib.suppress(OSError):
        Connection(address, timeout=10).close()
        return True
    return False
