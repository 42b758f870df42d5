"""The program `apidctl`: one command to the parent's control socket, and its verdict as an exit code."""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from apid import conf
from apid.cli import plugins
from apid.errors import ApidError, ConfigError

COMMANDS = {
    "status": "print what the daemon is doing",
    "top": "show what the daemon is doing, live; q ends it",
    "reload": "reload the configuration, the pipelines and the application; waits until every worker is of the new generation",
    "upgrade": "become the installed program, with the same pid and sockets; waits as reload does",
    "stop": "drain and exit; waits until the daemon is gone",
    "scale": "set the number of workers; waits until that many are ready",
    "reopen": "reopen the log files, after they were moved away",
    "dump": "write the stacks of all threads, green or native, of all workers to the log",
}

INTERVALS = {"status": 0.5, "top": 1.0}
"""Default of --interval by command, in seconds."""

TOP_PATIENCE = 3.0
"""Seconds that `top` waits for a document before it says that none comes."""


class CommandFailedError(ApidError):
    """The daemon said no, or nothing; the text is its reason."""

    exit_code = 1  # type: ignore[assignment]  # apidctl's own: 1 is "it was not done", not the daemon's CUT


def main(argv: Sequence[str]) -> int:
    """Run `apidctl` with the arguments after the program's name; returns the exit code 0.

    Raises:
        ApidError: no daemon, no answer in time, or a verdict that is not good; the text says which.
    """
    args = _parser().parse_args(argv)
    path = _socket_path(args)
    if args.command == "top":
        from apid.cli import top

        top.run(lambda flights: _document(path, args.timeout or TOP_PATIENCE, flights), args.interval)
        return 0
    if args.command == "status":
        _status(path, args)
        return 0
    request: dict[str, Any] = {"v": 1, "command": args.command}
    if args.command == "scale":
        request["number"] = args.number
    answer = ask(path, request, args.timeout)
    if not answer["ok"]:
        raise CommandFailedError(answer["text"])
    if not args.quiet:
        print(answer["text"])  # noqa: T201 - its output
    return 0


def _status(path: str, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_document(path, args.timeout), indent=2))  # noqa: T201 - its output
        return
    from apid.cli import status_table  # here, because rich takes longer to import than a reload's command to send
    from apid.cli.sample import Sample

    before = None
    if args.interval > 0:
        before = _document(path, args.timeout)
        time.sleep(args.interval)
    status_table.show(Sample.of(before, _document(path, args.timeout)))


def _document(path: str, timeout: float, flights: int = 0) -> dict[str, Any]:
    answer = ask(path, {"v": 1, "command": "status", "number": flights}, timeout)
    if not answer["ok"]:
        raise CommandFailedError(answer["text"])
    document: dict[str, Any] = answer["data"]
    return document


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="apidctl",
        description="Talk to a running apid. Exit code 0: it is done; 1: it is not, and the reason is on the standard error.",
        epilog=f"Commands of applications: {', '.join(plugins.names()) or 'none'}.",
    )
    parser.add_argument(
        "--config-file", action="append", default=[], metavar="F", help="take control_socket from there"
    )
    parser.add_argument(
        "--config-dir", action="append", default=[], metavar="D", help="as --config-file, all its *.conf"
    )
    parser.add_argument("--socket", metavar="S", help="the daemon's control socket")
    parser.add_argument("--timeout", type=float, default=0.0, metavar="SECONDS", help="how long to wait; 0: no limit")
    parser.add_argument("--quiet", action="store_true", help="say nothing when it is done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "scale":
            command.add_argument("number", type=int, metavar="N", help="how many workers")
        if name in INTERVALS:
            command.add_argument(
                "--interval",
                type=_interval(name),
                default=INTERVALS[name],
                metavar="SECONDS",
                help="seconds that rates and latencies are taken over; for status, 0 takes each worker's whole life",
            )
        if name == "status":
            command.add_argument("--json", action="store_true", help="the whole document, for programs")
    return parser


def _interval(command: str) -> Callable[[str], float]:
    least, most = (0.0, 60.0) if command == "status" else (0.1, 60.0)

    def interval(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g} seconds")
        return value

    return interval


def _socket_path(args: argparse.Namespace) -> str:
    if args.socket:
        return str(args.socket)
    files = [word for file in args.config_file for word in ("--config-file", file)]
    dirs = [word for directory in args.config_dir for word in ("--config-dir", directory)]
    settings = conf.load([*files, *dirs])
    if settings.daemon.control_socket is None:
        where = ", ".join(settings.files) or "the default configuration"
        raise ConfigError(f"no control socket: {where} sets no control_socket; give --socket or --config-file")
    return settings.daemon.control_socket


def ask(path: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send one request and return the answer; `timeout` in seconds, 0 sets no limit.

    Raises:
        CommandFailedError: nobody listens there, the daemon ended without an answer, or the time is over.
    """
    deadline = time.monotonic() + timeout if timeout else None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout or None)
        try:
            sock.connect(path)
            sock.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                if deadline is not None:
                    sock.settimeout(max(0.001, deadline - time.monotonic()))
                received = sock.recv(65536)
                if not received:
                    break
                data += received
        except TimeoutError:
            raise CommandFailedError(
                f"no verdict on {request['command']} within {timeout:g} s; the daemon goes on with it"
            ) from None
        except OSError as error:
            raise CommandFailedError(f"cannot talk to a daemon at {path}: {error.strerror}") from error
    if not data.endswith(b"\n"):
        raise CommandFailedError(f"the daemon ended without a verdict on {request['command']}")
    answer: dict[str, Any] = json.loads(data)
    return answer
