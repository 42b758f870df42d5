"""The real daemon as a process of its own: configuration written to a directory, log kept as evidence, port learned from it.

Nothing here imports apid: what a test knows of the daemon it knows as an operator does, from the log, the exit code, /proc and
`apidctl`.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from signal import SIGTERM
from typing import Any, Self

from tests.support import processes
from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(sys.executable).with_name("apid")
CONTROL = pathlib.Path(sys.executable).with_name("apidctl")
TROUBLE = re.compile(r"\b(?:ERROR|CRITICAL)\b|^Traceback |Exception ignored|ResourceWarning", re.MULTILINE)
STALL = re.compile(r"stalled: its loop has not turned for \d\.\d s")
"""A stall of less than 10 s: on a loaded machine it is true and no fault. The tests of hangs check for this line themselves."""
LISTENING = r"listening on (\S+) \(listener ([^)]+)\)"
READY = r"ready: (\d+) workers? of generation (\d+)"

HANDING_OVER = """
import os, sys
for at, fd in enumerate(sys.argv[1].split(","), 3):
    os.dup2(int(fd), at, inheritable=True)
    os.close(int(fd))
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_PID": str(os.getpid())})
"""

Options = Mapping[str, object]


def config_text(options: Options, sections: Mapping[str, Options] | None = None) -> str:
    """Return the text of a configuration file: [DEFAULT], then the other sections; a list becomes one line a value."""
    lines: list[str] = []
    for section, values in {"DEFAULT": options, **(sections or {})}.items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            for one in value if isinstance(value, list | tuple) else [value]:
                lines.append(f"{name} = {one}")
        lines.append("")
    return "\n".join(lines)


class Daemon:
    """One daemon in one directory. `start` it, `stop` it; `with` does both.

    Args:
        directory: an empty one; apid.conf, api-paste.ini, apid.log and the control socket are put there.
        paste: text of api-paste.ini; None writes none.
        sections: further sections of apid.conf.
        environment: added to a small environment of its own (PATH, PYTHONPATH with the checkout and `directory`).
        listen: sockets handed over as systemd does (LISTEN_FDS), with their names; `bind = fd:NAME` adopts them.
        arguments: put after `--config-file`.
        options: of [DEFAULT]; None leaves one out. Unless told otherwise bind_port is 0, workers 2, control_socket `ctl` in the
            directory.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        paste: str | None = None,
        sections: Mapping[str, Options] | None = None,
        environment: Mapping[str, str] | None = None,
        listen: Mapping[str, socket.socket] | None = None,
        arguments: Sequence[str] = (),
        program: Sequence[str] | None = None,
        **options: object,
    ) -> None:
        self.directory = directory
        self.config = directory / "apid.conf"
        self.paste = directory / "api-paste.ini"
        self.working_directory = directory
        self.log_path = directory / "apid.log"
        self.control = directory / "ctl"
        self.options: dict[str, object] = {
            "bind_port": 0,
            "workers": 2,
            "control_socket": self.control,
            **options,
        }
        self.sections = dict(sections or {})
        self.environment = dict(environment or {})
        self.listen = dict(listen or {})
        self.arguments = list(arguments)
        self.program = list(program or [str(PROGRAM)])
        self.executed: pathlib.Path | None = None
        """Where the application `recording` writes what it executes."""
        self.process: subprocess.Popen[bytes] | None = None
        self.allowed: list[re.Pattern[str]] = []
        if paste is not None:
            self.paste.write_text(paste, encoding="utf-8")
        self.write_config()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Daemon pid={self.process and self.process.pid} in {self.directory}>"

    def write_config(self) -> None:
        """Write apid.conf anew from `options` and `sections`; a test changes these and reloads."""
        kept = {name: value for name, value in self.options.items() if value is not None}
        self.config.write_text(config_text(kept, self.sections), encoding="utf-8")

    # -- its life

    def launch(self) -> Self:
        """Start the process and wait for nothing."""
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": f"{self.directory}{os.pathsep}{TOP}",
            "PYTHONFAULTHANDLER": "1",
            "LANG": "C.UTF-8",
            # Importing eventlet's resolver takes a third of a worker's boot, and no test resolves a name.
            "EVENTLET_NO_GREENDNS": "yes",
            "STATE_DIRECTORY": str(self.directory),
            **self.environment,
        }
        command = [*self.program, "--config-file", str(self.config), *self.arguments]
        inherited: tuple[int, ...] = ()
        if self.listen:
            command, inherited = self._handing_over(command, environment)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.working_directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                start_new_session=True,
            )
        return self

    def _handing_over(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], tuple[int, ...]]:
        """Put the sockets at 3, 4, ... and the pid into LISTEN_PID, as sd_listen_fds(3) has it; then exec."""
        environment["LISTEN_FDS"] = str(len(self.listen))
        environment["LISTEN_FDNAMES"] = ":".join(self.listen)
        fds = [sock.fileno() for sock in self.listen.values()]
        if min(fds) < 3 + len(fds):
            raise AssertionError("a socket to be handed over sits where the handed over ones go; open it later")
        return [sys.executable, "-I", "-S", "-c", HANDING_OVER, ",".join(map(str, fds)), *command], tuple(fds)

    def start(self, deadline: float = 30.0) -> Self:
        """Start the process and wait until it says that it serves."""
        self.launch()
        self.wait_ready(deadline=deadline)
        return self

    def wait_ready(self, generation: int = 1, deadline: float = 30.0) -> None:
        """Wait until the log says that this generation serves, at the start or after a reload."""
        started = rf"ready: \d+ workers? of generation {generation}\b|ready: serving inline"
        self.wait_for_log(rf"{started}|generation {generation} is ready\b", deadline)

    def wait_served(self, deadline: float = 30.0) -> None:
        """As `wait_ready`, for a daemon whose log is not read: by the control socket, which refuses before it listens."""

        def serves() -> bool:
            try:
                return bool(self.status()["phase"] == "running")
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        wait_until(serves, "the daemon is ready", deadline)

    def signal(self, number: int) -> None:
        """Send a signal to the parent."""
        assert self.process
        self.process.send_signal(number)

    def wait(self, deadline: float = 30.0) -> int:
        """Wait for the end; returns the exit code, negative for a signal as in `subprocess`."""
        assert self.process
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end within {deadline:g} s; log:\n{self.log()}") from None

    def stop(self, number: int = SIGTERM, deadline: float = 30.0) -> int:
        """Send a signal, wait for the end, return the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.signal(number)
        return self.wait(deadline)

    def kill(self) -> None:
        """End whatever is left: the parent and every process of its session. For clean-up after a failed test."""
        if self.process is None:
            return
        workers = self.worker_pids()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in workers:
            if processes.alive(pid):
                processes.end(pid)

    # -- its evidence

    def log(self) -> str:
        """Everything logged so far (standard output and error)."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, pattern: str, deadline: float = 10.0, *, count: int = 1) -> re.Match[str]:
        """Wait until `pattern` stands in the log `count` times; returns the last of these matches.

        Raises:
            AssertionError: it did not come in time, or the daemon ended without it; with the log.
        """
        compiled = re.compile(pattern, re.MULTILINE)
        end = time.monotonic() + deadline
        while True:
            ended = self.process is None or self.process.poll() is not None
            found = list(compiled.finditer(self.log()))
            if len(found) >= count:
                return found[count - 1]
            if ended or time.monotonic() > end:
                why = (
                    f"the daemon ended with {self.process and self.process.returncode}"
                    if ended
                    else f"{deadline:g} s passed"
                )
                raise AssertionError(f"{why} and the log has {len(found)} of {count} {pattern!r}:\n{self.log()}")
            time.sleep(0.01)

    def allow(self, *patterns: str) -> None:
        """Declare that lines matching these are expected trouble in the log of this test."""
        self.allowed += [re.compile(pattern) for pattern in patterns]

    def check_log(self) -> None:
        """Fail when the log holds an error, a traceback or a warning of Python's that no test declared."""
        lines = [line for line in self.log().splitlines() if TROUBLE.search(line) and not STALL.search(line)]
        unexpected = [line for line in lines if not any(pattern.search(line) for pattern in self.allowed)]
        if unexpected:
            text = "\n".join(unexpected)
            raise AssertionError(
                f"the log has trouble that the test did not declare:\n{text}\nthe whole log:\n{self.log()}"
            )

    def addresses(self, listener: str = "main") -> list[str]:
        """Where it listens, from the log, in the spelling of the option `bind`."""
        return [address for address, name in re.findall(LISTENING, self.log()) if name == listener]

    @property
    def port(self) -> int:
        """The port of the first TCP address of the listener `main`."""
        found = self.wait_for_log(r"listening on \S+:(\d+) \(listener main\)")
        return int(found[1])

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of the first TCP address of the listener `main`."""
        found = self.wait_for_log(r"listening on (\S+):(\d+) \(listener main\)")
        return found[1].strip("[]"), int(found[2])

    @property
    def pid(self) -> int:
        """Of the parent."""
        assert self.process
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The parent's living children, in order of pid; a trial or preflight child counts while it lives.

        A mold does not count, nor a fork that has not said yet what it is, nor what an application has forked and the parent
        has adopted.
        """
        others = ("apid: mold", "apid: child of", "apid: parent")
        alive = [pid for pid in processes.children(self.pid) if processes.alive(pid)]
        return sorted(pid for pid in alive if not processes.command(pid).startswith(others))

    def mold_pids(self) -> list[int]:
        """The living molds, in order of pid."""
        return sorted(pid for pid in processes.children(self.pid) if processes.command(pid).startswith("apid: mold"))

    def wait_for_workers(self, count: int, but: Iterable[int] = (), deadline: float = 10.0) -> list[int]:
        """Wait until there are exactly `count` children, none of `but`; returns their pids."""
        gone = set(but)

        def right() -> list[int] | None:
            pids = self.worker_pids()
            return pids if len(pids) == count and not gone & set(pids) else None

        pids = wait_until(
            lambda: right() or (count == 0 and not self.worker_pids()), f"{count} workers, none of {gone}", deadline
        )
        return pids if isinstance(pids, list) else []

    # -- its tongue

    def ask(self, command: str, *, timeout: float = 60.0, **more: object) -> dict[str, Any]:
        """Send one command over the control socket, wait for its verdict and return that document; costs no process."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"v": 1, "command": command, **more}).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                data = sock.recv(1 << 20)
                if not data:
                    raise AssertionError(f"the control socket ended after {received!r}; log:\n{self.log()}")
                received += data
        document: dict[str, Any] = json.loads(received)
        return document

    def status(self) -> dict[str, Any]:
        """The status document, over the control socket."""
        answer = self.ask("status")
        assert answer["ok"], answer
        data: dict[str, Any] = answer["data"]
        return data

    def apidctl(self, *arguments: str, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run apidctl against this daemon's control socket.

        Raises:
            AssertionError: `check` and it did not end with 0.
        """
        done = subprocess.run(
            [str(CONTROL), "--socket", str(self.control), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"apidctl {' '.join(arguments)} gave {done.returncode}: {done.stderr}\nlog:\n{self.log()}"
            )
        return done
