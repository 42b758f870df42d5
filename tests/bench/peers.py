"""The servers, and with which words each is started: one worker, the settings its own documentation recommends for throughput.

A peer is told the port, the application and where its access log goes; what it cannot do is left out and said.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import sys
from collections.abc import Callable

from tests.bench.scenarios import Scenario

BIN = pathlib.Path(sys.executable).parent


@dataclasses.dataclass(frozen=True)
class Task:
    """What a peer is to do: in `directory` it may write files."""

    port: int
    scenario: Scenario
    directory: pathlib.Path

    @property
    def log(self) -> str:
        """Path of the access log."""
        return str(self.directory / "access.log")


@dataclasses.dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        package: the distribution that is installed for it, and whose version is printed.
        command: from a task to the command line.
        logs: whether it can write an access log.
        note: what a reader of the figures must know.
    """

    name: str
    package: str
    command: Callable[[Task], list[str]]
    logs: bool = True
    note: str = ""


def _program(name: str) -> str:
    beside = BIN / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _apid(engine: str) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        paste = task.directory / "api-paste.ini"
        if not task.scenario.paste_file:
            paste.write_text(f"[app:main]\npaste.app_factory = {task.scenario.factory}\n", encoding="utf-8")
        lines = ["[DEFAULT]", "bind_host = 127.0.0.1", f"bind_port = {task.port}", "workers = 1", f"engine = {engine}"]
        lines.append(f"access_log = {task.log if task.scenario.access_log else 'off'}")
        if engine == "threads" and task.scenario.threads:
            lines.append(f"pool_size = {task.scenario.threads}")
        lines += ["[paste_deploy]", f"config_file = {task.scenario.paste_file or paste}", ""]
        config = task.directory / "apid.conf"
        config.write_text("\n".join(lines), encoding="utf-8")
        return [_program("apid"), "--config-file", str(config)]

    return command


def _stock(task: Task) -> list[str]:
    log = [task.log] if task.scenario.access_log else []
    return [sys.executable, "-m", "tests.bench.stock", str(task.port), task.scenario.app, *log]


def _gunicorn(kind: str) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        log = ["--access-logfile", task.log] if task.scenario.access_log else []
        more = ["--threads", str(task.scenario.threads or 8)] if kind == "gthread" else []
        base = [_program("gunicorn"), "-w", "1", "-k", kind, "-b", f"127.0.0.1:{task.port}"]
        base += ["--keep-alive", "75", "--no-control-socket"]
        return [*base, *more, *log, task.scenario.app]

    return command


def _granian(task: Task) -> list[str]:
    base = [
        _program("granian"),
        "--interface",
        "wsgi",
        "--host",
        "127.0.0.1",
        "--port",
        str(task.port),
        "--workers",
        "1",
    ]
    log = ["--access-log"] if task.scenario.access_log else ["--no-access-log"]
    return [*base, "--blocking-threads", "1", "--runtime-threads", "1", "--backlog", "4096", *log, task.scenario.app]


def _bjoern(task: Task) -> list[str]:
    return [sys.executable, "-m", "tests.bench.bjoern_server", str(task.port), task.scenario.app]


def _uwsgi(task: Task) -> list[str]:
    base = [_program("uwsgi"), "--http", f"127.0.0.1:{task.port}", "--http-keepalive", "--master", "--processes", "1"]
    log = ["--logto", task.log] if task.scenario.access_log else ["--disable-logging"]
    module, _, name = task.scenario.app.partition(":")
    return [*base, "--listen", "128", "--die-on-term", "--need-app", *log, "--module", module, "--callable", name]


def _waitress(task: Task) -> list[str]:
    threads = task.scenario.threads or 4
    return [_program("waitress-serve"), f"--listen=127.0.0.1:{task.port}", f"--threads={threads}", task.scenario.app]


PEERS = (
    Peer("apid", "apid", _apid("eventlet"), note="engine = eventlet"),
    Peer("apid threads", "apid", _apid("threads"), note="engine = threads"),
    Peer("eventlet.wsgi", "eventlet", _stock, note="stock, monkey-patched, debug off"),
    Peer("gunicorn gthread", "gunicorn", _gunicorn("gthread")),
    Peer("gunicorn gevent", "gunicorn", _gunicorn("gevent")),
    Peer("granian", "granian", _granian, note="1 runtime and 1 blocking thread; its access log goes to stdout"),
    Peer("bjoern", "bjoern", _bjoern, logs=False, note="C; needs libev; no access log"),
    Peer("uwsgi", "uwsgi", _uwsgi, note="C; behind its own http router, which shares the core"),
    Peer("waitress", "waitress", _waitress, logs=False, note="no access log"),
)
