"""The default API against the same API with Flask and SQLAlchemy on gunicorn's gthread: list of 20, show, create.

    .venv/bin/python -m tests.bench.bench_default_api [SECONDS]

Both with one worker and the same database; the rounds alternate, and the ratio of the medians counts. Needs the extra bench,
wrk, and PostgreSQL for its half.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

from tests.bench.measure import Cores, free_port, pinned
from tests.support.client import Connection
from tests.support.postgres import Postgres
from tests.support.wrk import parse

TOP = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
ROUNDS, CONNECTIONS = 3, 16
JSON = {"Content-Type": "application/json"}

CREATE = """
local prefix = "%s"
local number = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  number = number + 1
  return wrk.format(nil, "/v1/animals", nil, '{"animal": {"name": "' .. prefix .. number .. '", "species": "dog"}}')
end
"""


def command(peer: str, port: int, directory: pathlib.Path) -> list[str]:
    """How a peer is started."""
    if peer == "apid":
        config = directory / "apid.conf"
        paste = (TOP / "etc" / "apid" / "api-paste.ini").read_text(encoding="utf-8")
        changed = paste.replace("use = egg:apid#api\n", "use = egg:apid#api\nquota_animals = 10000000\n")
        (directory / "api-paste.ini").write_text(changed, encoding="utf-8")
        config.write_text(f"[DEFAULT]\nbind_port = {port}\nworkers = 1\n", encoding="utf-8")
        return [str(BIN / "apid"), "--config-file", str(config)]
    module = "tests.bench.default_api.flask_zoo:app"
    return [str(BIN / "gunicorn"), "-k", "gthread", "--threads", "16", "-w", "1", "-b", f"127.0.0.1:{port}", module]


@contextlib.contextmanager
def served(peer: str, url: str, directory: pathlib.Path, core: int | None):
    """A running peer's port."""
    directory.mkdir()
    port = free_port()
    environment = {
        **os.environ,
        "OS_DATABASE__CONNECTION": url,
        "PYTHONPATH": str(TOP),
        "PYTHONWARNINGS": "ignore",
    }
    with open(directory / "output", "wb") as log:
        words = pinned(core, command(peer, port, directory))
        process = subprocess.Popen(words, cwd=TOP, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), Connection(("127.0.0.1", port)) as one:
                if one.request("GET", "/v1/animals?limit=1").status == 200:
                    break
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{peer} does not serve:\n{(directory / 'output').read_text()[-2000:]}")
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def fill(port: int) -> str:
    """Create 20 animals; returns the id of one."""
    with Connection(("127.0.0.1", port)) as one:
        for number in range(20):
            body = json.dumps({"animal": {"name": f"first{number}", "species": "dog"}}).encode()
            answer = one.request("POST", "/v1/animals", body=body, headers=JSON)
            assert answer.status == 201, answer.text
    return answer.json()["animal"]["id"]


def wrk(port: int, path: str, script: pathlib.Path | None, seconds: int, core: int | None):
    """One round."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    if script is not None:
        script.write_text(CREATE % uuid.uuid4().hex[:8], encoding="utf-8")
        words += ["-s", str(script)]
    done = subprocess.run(
        pinned(core, [*words, f"http://127.0.0.1:{port}{path}"]), capture_output=True, text=True, check=True
    )
    return parse(done.stdout)


def compare(name: str, urls: dict[str, str], seconds: int, directory: pathlib.Path) -> None:
    """Serve both over their databases, and print a line for each operation."""
    cores = Cores.found()
    with contextlib.ExitStack() as stack:
        ports = {
            peer: stack.enter_context(served(peer, url, directory / f"{name}-{peer}", cores.server))
            for peer, url in urls.items()
        }
        ids = {peer: fill(port) for peer, port in ports.items()}
        for operation in ("list of 20", "show", "create"):
            rates: dict[str, list[float]] = {peer: [] for peer in ports}
            errors = 0
            for _ in range(ROUNDS):
                for peer, port in ports.items():
                    path = f"/v1/animals/{ids[peer]}" if operation == "show" else "/v1/animals?limit=20"
                    script = directory / "create.lua" if operation == "create" else None
                    figures = wrk(port, path, script, seconds, cores.client)
                    rates[peer].append(figures.rate)
                    errors += figures.errors
            median = {peer: statistics.median(runs) for peer, runs in rates.items()}
            print(
                f"| {name} | {operation} | {median['apid']:,.0f} | {median['flask']:,.0f} "
                f"| {median['apid'] / median['flask']:.2f}x | {errors} |"
            )


def migrate(url: str) -> None:
    """Make the schema, also for Flask: both have the same table and indexes."""
    from apid.api.db import migrate as migrations
    from apid.api.db.connection import Database

    database = Database(url)
    migrations.upgrade(database)
    database.dispose()


def main() -> None:
    """Compare."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| database | | apid, requests/s | Flask on gthread | ratio | errors |\n|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="apid-bench-") as name:
        directory = pathlib.Path(name)
        urls = {peer: f"sqlite:///{directory}/{peer}.sqlite" for peer in ("apid", "flask")}
        for url in urls.values():
            migrate(url)
        compare("SQLite", urls, seconds, directory)
        postgres = Postgres()
        try:
            urls = {peer: postgres.database() for peer in ("apid", "flask")}
            for url in urls.values():
                migrate(url)
            compare("PostgreSQL", urls, seconds, directory)
        finally:
            postgres.close()


if __name__ == "__main__":
    main()
