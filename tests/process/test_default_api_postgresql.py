"""The default API over a real PostgreSQL: green waits, races between workers, an outage and a recovery without a restart."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import time

import pytest
import sqlalchemy as sa

from apid.api.db import animals, migrate
from apid.api.db.connection import Database, DatabaseDown
from tests.support.client import Connection, get
from tests.support.daemon import CONTROL, TOP, Daemon
from tests.support.postgres import Postgres
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

SHIPPED = TOP / "etc" / "apid" / "api-paste.ini"

SLEEPER = """
import os

import sqlalchemy as sa

from apid.api.db.connection import Database


def factory(global_conf):
    database = Database(os.environ["OS_DATABASE__CONNECTION"], 50)

    def app(environ, start_response):
        database.read(environ, lambda connection: connection.execute(sa.text("SELECT pg_sleep(0.1)")))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"slept"]

    return app
"""


@pytest.fixture
def postgres(nothing_left):
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def url(postgres):
    return postgres.database()


def daemon(directory, url):
    return Daemon(directory, sections={"database": {"connection": url}, "paste_deploy": {"config_file": SHIPPED}})


def upgraded(daemon) -> Daemon:
    environment = {name: value for name, value in os.environ.items() if name != "OS_DATABASE__CONNECTION"}
    command = [CONTROL, "--config-file", daemon.config, "db", "upgrade"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr
    return daemon


def post(address, name: str) -> int:
    body = json.dumps({"animal": {"name": name, "species": "dog"}}).encode()
    with Connection(address) as client:
        return client.request("POST", "/v1/animals", body=body, headers={"Content-Type": "application/json"}).status


def test_a_missing_schema_is_an_error_at_the_start_that_says_what_to_run(tmp_path, url):
    started = daemon(tmp_path, url)
    started.allow("apidctl db upgrade")
    started.launch()
    assert started.wait() == 2
    assert "has no schema, this program needs 0001: run apidctl db upgrade" in started.log()
    assert "secret" not in started.log()


def test_of_many_who_create_one_name_over_two_workers_one_succeeds(tmp_path, url):
    with upgraded(daemon(tmp_path, url)) as running:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for round_ in range(5):
                codes = list(pool.map(lambda _, r=round_: post(running.address, f"name{r}"), range(16)))
                assert sorted(codes) == [201] + [409] * 15
        assert len(json.loads(get(running.address, "/v1/animals").body)["animals"]) == 5


def test_a_quota_holds_for_many_at_once_over_two_workers(tmp_path, url):
    paste = tmp_path / "quota.ini"
    paste.write_text(SHIPPED.read_text().replace("use = egg:apid#api\n", "use = egg:apid#api\nquota_animals = 12\n"))
    one = daemon(tmp_path, url)
    one.sections["paste_deploy"] = {"config_file": paste}
    one.write_config()
    with upgraded(one) as running:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(lambda number: post(running.address, f"name{number}"), range(48)))
        assert sorted(codes) == [201] * 12 + [403] * 36


def test_an_outage_is_503_and_ends_without_a_restart(tmp_path, postgres, url):
    with upgraded(daemon(tmp_path, url)) as running:
        assert post(running.address, "before the outage") == 201
        pids = running.worker_pids()
        postgres.stop()
        try:
            for _ in range(4):
                answer = get(running.address, "/v1/animals")
                assert answer.status == 503
                assert answer.header("Retry-After") == "5"
                assert b"secret" not in answer.body
                assert str(postgres.directory).encode() not in answer.body
            wait_until(lambda: get(running.address, "/healthcheck").status == 503, "the health check says so", 10)
        finally:
            postgres.start()
        wait_until(lambda: get(running.address, "/healthcheck").status == 200, "the health check says so", 10)
        wait_until(
            lambda: post(running.address, f"after {time.monotonic()}") == 201, "animals can be created again", 10
        )
        assert get(running.address, "/v1/animals").status == 200
        assert running.worker_pids() == pids


def test_a_restart_between_two_requests_is_not_seen(tmp_path, postgres, url):
    """The pool's connections are broken then; whatever was not committed by one is done again on a new one, writes too."""
    with upgraded(daemon(tmp_path, url)) as running:
        for number in range(2):
            assert [post(running.address, f"{number}-{each}") for each in range(8)] == [201] * 8
            postgres.stop()
            postgres.start()
        assert [get(running.address, "/v1/animals").status for _ in range(8)] == [200] * 8


def test_what_the_database_cannot_keep_is_the_clients_mistake(tmp_path, url):
    with upgraded(daemon(tmp_path, url)) as running, Connection(running.address) as client:
        for path in ("/v1/animals?marker=%00", "/v1/animals?name=%00"):
            assert client.request(path=path).status == 400
        body = json.dumps({"animal": {"name": "x", "species": "dog"}}).encode()
        headers = {"Content-Type": "application/json", "X-Auth-Token": f"u:{'p' * 300}"}
        answer = client.request("POST", "/v1/animals", body=body, headers=headers)
        assert answer.status == 400
        assert "too long" in answer.text


def test_a_database_that_is_away_does_not_stop_a_start(tmp_path, postgres, url):
    running = upgraded(daemon(tmp_path, url))
    postgres.stop()
    try:
        running.start()
        assert get(running.address, "/v1/animals").status == 503
        assert get(running.address, "/").status == 300
        postgres.start()
        wait_until(lambda: get(running.address, "/v1/animals").status == 200, "the API works", 10)
    finally:
        running.stop()


def test_waiting_in_the_database_stops_no_other_request(tmp_path, url):
    """50 requests that each wait 100 ms: one after the other they would take 5 s."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    sleeping = Daemon(
        tmp_path,
        paste="[app:main]\npaste.app_factory = sleeper:factory\n",
        sections={"database": {"connection": url}},
        workers=1,
    )
    with sleeping, concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: get(sleeping.address), range(50)))  # connections are made
        began = time.monotonic()
        codes = list(pool.map(lambda _: get(sleeping.address).status, range(50)))
        took = time.monotonic() - began
    assert codes == [200] * 50
    print(f"\n50 requests of 100 ms in PostgreSQL took {took:.3f} s on one worker")  # noqa: T201 - the figure of the promise
    assert took < 50 * 0.1 / 2  # far from one after the other, however busy the machine; the figure is printed


def test_a_pool_without_a_place_is_503_and_a_read_leaves_no_trace_on_its_connection(url):
    database = Database(url, 1)
    migrate.upgrade(database)
    try:
        with database.engine.connect(), pytest.raises(DatabaseDown):
            database.read({}, lambda connection: connection.execute(sa.text("SELECT 1")))

        def breaks_off(connection):
            animals.create(connection, "p", {"name": "x", "species": "dog"})
            raise KeyError("half done")

        for _ in range(2):  # the one connection reads without a transaction, and writes in one
            assert database.read({}, lambda connection: animals.count(connection, "p")) == 0
            with pytest.raises(KeyError):
                database.write({}, breaks_off)
    finally:
        database.dispose()
