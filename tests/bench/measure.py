"""One measurement: start a server on its core, see that it answers rightly, let wrk ask from the other core, stop it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from tests.bench.peers import Peer, Task
from tests.bench.scenarios import Scenario
from tests.support.client import Address, AnswerError, Connection
from tests.support.wrk import WrkFigures, command, parse

TOP = pathlib.Path(__file__).resolve().parents[2]
CONNECTIONS = 64


class PeerError(Exception):
    """A peer that did not start, or did not answer as it should; the text says how."""


@dataclasses.dataclass(frozen=True)
class Cores:
    """Where server and client run; None where the machine has one core only."""

    server: int | None
    client: int | None

    @classmethod
    def found(cls) -> Cores:
        """The first two cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(usable[0], usable[1])


def pinned(core: int | None, words: list[str]) -> list[str]:
    """Put `taskset` before a command."""
    return words if core is None else ["taskset", "-c", str(core), *words]


def free_port() -> int:
    """A port that nobody has at this moment; few of the peers can be given 0 or an open socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def measure(peer: Peer, scenario: Scenario, seconds: float, cores: Cores) -> WrkFigures:
    """Measure once.

    Raises:
        PeerError: with the last lines of what the peer wrote.
    """
    with tempfile.TemporaryDirectory(prefix="apid-bench-") as name:
        task = Task(free_port(), scenario, pathlib.Path(name))
        output = task.directory / "output"
        environment = {**os.environ, "PYTHONPATH": str(TOP), "PYTHONWARNINGS": "ignore"}
        with open(output, "wb") as log:
            server = subprocess.Popen(
                pinned(cores.server, peer.command(task)),
                cwd=TOP,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for_the_right_answer(server, task)
            return run_wrk(task, seconds, cores)
        except PeerError as error:
            last = "\n    ".join(output.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise PeerError(f"{error}\n    {last}") from None
        finally:
            stop(server)


def wait_for_the_right_answer(server: subprocess.Popen[bytes], task: Task, deadline: float = 15.0) -> None:
    """Ask until the answer is 2xx or 3xx, as the scenario has it."""
    end = time.monotonic() + deadline
    body = None
    headers: dict[str, str] = {"Connection": "close"}
    if task.scenario.method == "POST":
        members = ", ".join(f'"k{number}": "v"' for number in range(16))
        body = b'{"server": {"name": "n", "metadata": {%s}}}' % members.encode()
        headers["X-Auth-Token"] = "t"
    address: Address = ("127.0.0.1", task.port)
    status: object = "no answer"
    while time.monotonic() < end:
        if server.poll() is not None:
            raise PeerError(f"ended with {server.returncode}")
        try:
            with Connection(address, timeout=5) as connection:
                status = connection.request(task.scenario.method, task.scenario.path, headers=headers, body=body).status
        except (OSError, AnswerError):
            time.sleep(0.05)
            continue
        if status in {200, 201, 202, 300}:
            return
        break
    raise PeerError(f"did not answer as it should: {status}")


def run_wrk(task: Task, seconds: float, cores: Cores) -> WrkFigures:
    """Warm up for half a second, then measure."""
    url = f"http://127.0.0.1:{task.port}{task.scenario.path}"
    for length in (0.5, seconds):
        words = command(
            url,
            connections=CONNECTIONS,
            threads=1,
            seconds=max(1, round(length)),
            script=task.scenario.script,
            headers=dict(task.scenario.headers),
        )
        done = subprocess.run(
            pinned(cores.client, words), capture_output=True, text=True, check=False, timeout=seconds + 30
        )
        try:
            figures = parse(done.stdout + done.stderr)
        except AssertionError as error:
            raise PeerError(str(error)) from None
    return figures


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and everything it started; its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(5)
