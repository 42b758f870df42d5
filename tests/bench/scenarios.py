"""What is measured: an application, how wrk asks for it, and whether the server writes an access log meanwhile."""

from __future__ import annotations

import dataclasses
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One row of questions.

    Attributes:
        app: `module:callable` for servers that take one. factory: the same for paste.
        access_log: whether one is written, to a file; servers that have none are left out.
        status: what the right answer is.
        peers: names of those it is meant for; empty: all.
        paste_file: an ini that apid is given instead of one with `factory`.
        threads: of servers that have a number of them; 0: as their documentation has it.
    """

    name: str
    title: str
    app: str
    factory: str
    access_log: bool = False
    script: pathlib.Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    path: str = "/"
    method: str = "GET"
    peers: tuple[str, ...] = ()
    paste_file: str = ""
    threads: int = 0


HELLO = ("tests.bench.applications:hello", "tests.bench.applications:hello_factory")
REALISTIC = ("tests.bench.applications:realistic", "tests.bench.applications:realistic_factory")

SLEEP = ("tests.bench.applications:sleep", "tests.bench.applications:sleep_factory")
RARE = ("tests.bench.applications:rare", "tests.bench.applications:rare_factory")
WITH_THREADS = ("apid", "apid threads", "eventlet.wsgi", "gunicorn gthread", "waitress")

SCENARIOS = (
    Scenario("hello", "hello, keep-alive, access log off", *HELLO),
    Scenario("hello-log", "hello, keep-alive, access log on", *HELLO, access_log=True),
    Scenario(
        "realistic",
        "10 headers, 1 KiB JSON in, 4 KiB JSON out, keep-alive, access log off",
        *REALISTIC,
        script=HERE / "realistic.lua",
        method="POST",
    ),
    Scenario("oneshot", "hello, one request a connection, access log off", *HELLO, headers=(("Connection", "close"),)),
    Scenario("sleep", "each request sleeps for 5 ms, 64 threads", *SLEEP, peers=WITH_THREADS, threads=64),
    Scenario("rare", "one request of a hundred sleeps for 5 ms, 64 threads", *RARE, peers=WITH_THREADS, threads=64),
    Scenario(
        "pipeline",
        "five filters, router, JSON: with apid.wsgi under apid; with RoutesMiddleware and wsgify under stock",
        app=f"config:{HERE / 'pipeline' / 'classic.ini'}",
        factory="",
        path="/v1/admin/animals/7",  # without a token both noauth filters say user and project admin
        peers=("apid", "apid threads", "eventlet.wsgi"),
        paste_file=str(HERE / "pipeline" / "modern.ini"),
    ),
)
