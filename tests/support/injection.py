"""Faults on purpose, in a process of its own: each call of an effect fails in turn, and the parent must go on.

`python -m tests.support.injection SCENARIO DIRECTORY PART PARTS` runs the parent of a daemon with its own loop, plan and effects;
its workers are forked, but load nothing. A first run counts the calls that the scenario makes; then each one fails with each
error. What breaks an invariant is printed, one line each.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import grp
import itertools
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import setproctitle

from apid import channel, conf
from apid.cli import serve
from apid.errors import ApidError
from apid.parent import change_steps, ownlog
from apid.parent.effects import Effects
from apid.parent.listeners import Listeners
from apid.parent.loop import Loop
from apid.parent.phases import Phase
from apid.parent.plan import Plan
from apid.parent.reservation import Holdings, Reservation
from apid.posix import systemd

ERRORS = [
    *(lambda number=number: OSError(number, os.strerror(number)) for number in (13, 24, 28, 40, 4)),
    lambda: OverflowError("Python int too large to convert to C long"),
    lambda: RuntimeError("injected"),
]
assert [errno.EACCES, errno.EMFILE, errno.ENOSPC, errno.ELOOP, errno.EINTR] == [13, 24, 28, 40, 4]

CALLS = [
    *(
        (os, name)
        for name in (
            "open",
            "stat",
            "lstat",
            "fstat",
            "link",
            "unlink",
            "kill",
            "fork",
            "memfd_create",
            "pread",
            "dup2",
        )
    ),
    *((os, name) for name in ("replace", "fchown", "execve", "set_inheritable", "waitpid", "listdir", "scandir")),
    *((socket.socket, name) for name in ("__init__", "bind", "listen", "connect", "sendmsg", "getsockname")),
    *((socket.socket, name) for name in ("setsockopt", "setblocking")),
    *((socket, name) for name in ("socketpair", "getaddrinfo")),
    *((pwd, name) for name in ("getpwnam", "getpwuid")),
    *((grp, name) for name in ("getgrnam", "getgrgid")),
    (builtins, "open"),
    (subprocess, "Popen"),
    (setproctitle, "setproctitle"),
]


class Injector:
    """Stands before CALLS; the `fail_at`th call of the parent fails with `error`, once."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.active = self.inside = False
        self.count, self.fail_at, self.error = 0, -1, None
        self.hit = ""
        for owner, name in CALLS:
            setattr(owner, name, self.before(getattr(owner, name), name))

    def before(self, function, name):
        def call(*args, **kwargs):
            if not self.active or self.inside or os.getpid() != self.pid:
                return function(*args, **kwargs)
            self.count += 1
            if self.count - 1 == self.fail_at:
                self.hit = name
                raise self.error()
            self.inside = True
            try:
                return function(*args, **kwargs)
            finally:
                self.inside = False

        return call

    def arm(self, fail_at: int, error) -> None:
        self.active, self.count, self.fail_at, self.error, self.hit = True, 0, fail_at, error, ""


CLIENTS: list[socket.socket] = []
"""Of the control socket, on this side."""


def worker(ticket) -> None:
    """A worker that says that it is ready, beats, and leaves when it is told to."""
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)
    for client in CLIENTS:  # it is this process's, and the parent's end must see that it is closed
        client.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sock = ticket.channel
    sock.settimeout(0.2)
    sock.send(channel.encode(channel.Ready()))
    if ticket.trial:
        os._exit(0)
    while True:
        ticket.row.beat()
        with contextlib.suppress(TimeoutError):
            packet = sock.recv(channel.MAX_MESSAGE)
            if not packet:
                os._exit(0)
            if isinstance(channel.decode(packet, channel.Sender.PARENT), channel.Drain):
                sock.send(channel.encode(channel.Draining()))
                sock.send(channel.encode(channel.DrainDone([])))
                os._exit(0)


class Eager(Loop):
    """It never waits long: what a test waits for need not be an event."""

    def _timeout(self) -> float:
        return 0.005


class World:
    """A directory with a configuration, and a daemon's parent in this process."""

    def __init__(self, directory: pathlib.Path) -> None:
        change_steps.WATCH = 0.0  # hundreds of changes are made here
        self.directory = directory
        self.injector = Injector()
        self.number = 0
        self.write()
        self.load = lambda: conf.load(["--config-file", str(directory / "apid.conf")], environ={})
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.setblocking(False)
        self.manager.bind(str(directory / "notify"))

    def write(self) -> None:
        """Another configuration each time: the sockets, the pid file and the log have new names."""
        self.number += 1
        here, user, group = self.directory, pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        lines = [
            "[DEFAULT]",
            "workers = 1",
            "startup_timeout = 3",
            f"bind = unix:{here}/app-{self.number}",
            f"bind = 127.0.0.1:{free_port()}",
            f"pid_file = {here}/pid-{self.number}",
            f"log_file = {here}/log-{self.number % 2}",
            f"access_log = {here}/access",
            f"control_socket = {here}/ctl-{self.number}",
            f"user = {user}",
            f"group = {group}",
        ]
        (here / "apid.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        settings = self.load()
        ownlog.set_up(settings)
        listeners = Listeners()
        reserved, holdings = Reservation.take(settings, listeners, Holdings()), Holdings()
        reserved.commit_control(settings.daemon, holdings)
        reserved.commit_pid_file(settings.daemon, holdings)
        self.effects = Effects(
            settings,
            listeners,
            load=self.load,
            run_worker=worker,
            notifier=systemd.Notifier({"NOTIFY_SOCKET": str(self.directory / "notify")}),
            argv=[sys.executable, "-c", "pass"],
            places=reserved.places,
            holdings=holdings,
        )
        self.loop = Eager(Plan.new(settings.daemon, time.monotonic()), self.effects)
        self.until(lambda: self.state.phase is Phase.RUNNING, "the start")

    def made(self) -> list[str]:
        """The names of all files that a daemon makes and removes."""
        return [
            path.name for path in self.directory.iterdir() if path.name.startswith(("app-", "pid-", "ctl-", ".apid-"))
        ]

    @property
    def state(self):
        return self.loop.plan.state

    def until(self, condition, what: str, seconds: float = 20.0) -> None:
        """Let the loop turn until `condition` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come: {self.state.phase}, {self.loop.plan.state.children!r}"
            assert self.effects.code is None, f"the daemon ended: {self.effects.reason}"
            self.loop.step()
            with contextlib.suppress(BlockingIOError):
                while self.manager.recv(4096):
                    pass

    def verdicts(self) -> int:
        return sum(self.state.changes.values())

    def ask(self, command: str, fail_at: int = -1, error=None) -> str:
        """Have a client ask for a change; returns what it is answered until the change is over and the old workers are gone."""
        before = self.verdicts()
        with socket.socket(socket.AF_UNIX) as client:
            CLIENTS[:] = [client]
            client.connect(self.effects.holdings.control.path)
            self.until(self.effects.holdings.control.clients, "the client")
            client.sendall(json.dumps({"v": 1, "command": command}).encode() + b"\n")
            self.injector.arm(fail_at, error)
            self.until(lambda: self.state.change or self.verdicts() > before, "the change")
            self.until(self.settled, "the verdict")
            self.injector.active = False
            assert self.verdicts() == before + 1, f"{self.verdicts() - before} verdicts"
            client.setblocking(False)
            answer = b""
            with contextlib.suppress(BlockingIOError):
                while data := client.recv(65536):
                    answer += data
        self.until(lambda: not self.effects.holdings.control.clients(), "the client is gone")
        return answer.decode()

    def settled(self) -> bool:
        """Nothing is under way, and the present generation serves."""
        state = self.state
        return (
            state.change is None
            and not state.polls
            and len(state.children) == state.wanted
            and state.complete(state.generation, state.wanted)
        )


def report(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def descriptors() -> Counter:
    kinds = Counter()
    for link in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            for mark in (":[", "/log-", "/.apid-", "/fd"):
                target = target.partition(mark)[0]
            kinds[target] += 1
    return kinds


def check_change(world: World, command: str, fail_at: int = -1, error=None) -> str:
    """One change with a fault, and a good reload after it; returns what does not hold."""
    world.write()
    generation, before = world.state.generation, descriptors()
    answer = world.ask(command, fail_at, error)
    world.count, world.hit = world.injector.count, world.injector.hit
    documents = [json.loads(line) for line in answer.splitlines()]
    last = world.state.history[-1]
    if len(documents) != 1:
        return f"{len(documents)} answers: {answer}"
    if documents[0]["ok"] != last.ok or (not last.ok and ": " not in last.text):
        return f"the answer {documents[0]} is not the verdict {last}"
    committed = world.state.generation != generation
    if not last.ok and committed != ("is ready" in last.text):
        return f"generation {world.state.generation} after {last}"
    if not pathlib.Path(world.effects.holdings.control.path).exists():
        return "no control socket"
    world.write()
    answer = world.ask("reload")
    if '"ok": true' not in answer:
        return f"a good reload after it failed: {answer}"
    if descriptors() != before:
        return f"descriptors {before} became {descriptors()}"
    settings = world.load()
    files = {f"app-{world.number}", f"pid-{world.number}", f"ctl-{world.number}"}
    found = set(world.made())
    # what the fault kept from being removed may lie there: it is the present ones that count
    return "" if files <= found and settings.daemon.workers == 1 else f"{files - found} are missing"


def change(world: World, command: str, part: int, parts: int) -> None:
    """A reload or an upgrade with each call failing in turn. The upgrade ends at the exec, which always fails here."""
    world.start()
    if command == "upgrade":

        def refused(*_):
            raise FileNotFoundError(2, "No such file or directory")

        os.execve = world.injector.before(refused, "execve")
    problem = check_change(world, command)
    calls = world.count
    assert not problem, problem
    assert calls > 20
    for number, (at, error) in enumerate(itertools.product(range(calls), range(len(ERRORS)))):
        if number % parts != part:
            continue
        world.hit = ""
        try:
            problem = check_change(world, command, at, ERRORS[error])
        except AssertionError as failure:
            report(f"call {at} ({world.injector.hit}) with {ERRORS[error]()!r}: {failure}")
            return  # it is not the parent that it was
        if problem:
            report(f"call {at} ({world.hit}) with {ERRORS[error]()!r}: {problem}")
    os.kill(os.getpid(), signal.SIGTERM)
    while world.effects.code is None:
        world.loop.step()
    world.loop.end()


def begin(world: World, part: int, parts: int) -> None:
    """A start with each call failing in turn, each in a child of its own: it serves, or ends with a code and leaves nothing."""
    argv = ["--config-file", str(world.directory / "apid.conf")]
    calls = one_start(world, argv, -1, None)[2]
    assert calls > 20
    for number, (at, error) in enumerate(itertools.product(range(calls), range(len(ERRORS)))):
        if number % parts != part:
            continue
        code, said, _, hit = one_start(world, argv, at, ERRORS[error])
        left = world.made()
        unknown = hit in ("unlink", "lstat", "fstat", "pread")  # whose file it is was not known
        problem = f"{left} left behind" if left and not unknown else ""
        if code not in (0, 2, 3, 4, 70) or (code and not said.strip()):
            problem = f"exit code {code}, and said {said!r}"
        if isinstance(ERRORS[error](), OSError) and code == 70 and "Error" not in said:
            problem = f"no reason: {said!r}"
        if problem:
            report(f"call {at} ({hit}) with {ERRORS[error]()!r}: {problem}")
        for name in left:
            os.unlink(world.directory / name)


def one_start(world: World, argv: list[str], at: int, error) -> tuple[int, str, int, str]:
    """(exit code, standard error, calls, name of the call that failed) of a start that is stopped once it is ready."""
    words, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 2)
        world.injector.pid = os.getpid()
        facts = world.directory / "facts"
        code = 99

        class Stopping(Loop):
            def step(self):
                super().step()
                if self.plan.state.phase is Phase.RUNNING and world.injector.active:
                    world.injector.active = False
                    os.kill(os.getpid(), signal.SIGTERM)

        serve.Loop, serve.boot.run = Stopping, worker
        world.injector.arm(at, error)
        try:
            code = serve.serve(argv)
        except ApidError as failure:
            os.write(2, str(failure).encode())
            code = int(failure.exit_code)
        except Exception as failure:  # noqa: BLE001 - as apid.cli.main
            os.write(2, f"{type(failure).__name__}Error: {failure}".encode())
            code = 70
        world.injector.active = False
        facts.write_text(f"{world.injector.count} {world.injector.hit}", encoding="utf-8")
        os._exit(code)
    os.close(theirs)
    with open(words, "rb") as file:
        said = file.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    calls, _, hit = (world.directory / "facts").read_text(encoding="utf-8").partition(" ")
    log = "".join(path.read_text(encoding="utf-8") for path in world.directory.glob("log-*"))
    return code, said + log, int(calls), hit


if __name__ == "__main__":
    scenario, where, which, of = sys.argv[1:5]
    arena = World(pathlib.Path(where))
    if scenario == "start":
        begin(arena, int(which), int(of))
    else:
        change(arena, scenario, int(which), int(of))
