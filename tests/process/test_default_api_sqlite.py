"""The default API over SQLite in a real worker: its native threads share the connections without a lock of eventlet's."""

from __future__ import annotations

import concurrent.futures
import json

import pytest

from tests.support.client import Connection, get
from tests.support.daemon import TOP
from tests.support.processes import wait_until

SHIPPED = TOP / "etc" / "apid" / "api-paste.ini"
CLIENTS, EACH = 40, 6


def test_more_clients_than_threads_all_get_their_answers(daemon):
    running = daemon(sections={"paste_deploy": {"config_file": SHIPPED}}, workers=1).start()

    def client(number: int) -> list[int]:
        codes = []
        with Connection(running.address, timeout=30) as one:
            for round_ in range(EACH):
                body = json.dumps({"animal": {"name": f"n{number}-{round_}", "species": "dog"}}).encode()
                headers = {"Content-Type": "application/json"}
                codes.append(one.request("POST", "/v1/animals", body=body, headers=headers).status)
                codes.append(one.request("GET", "/v1/animals?limit=5").status)
        return codes

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        codes = [code for found in pool.map(client, range(CLIENTS)) for code in found]
    assert codes.count(201) == CLIENTS * EACH
    assert codes.count(200) == CLIENTS * EACH


HEALTH = """
[composite:main]
use = egg:apid#urlmap
/v1 = api
/healthcheck = plain
/ready = database

[app:plain]
use = egg:apid#healthcheck

[app:database]
use = egg:apid#healthcheck
backends = database

[pipeline:api]
pipeline = faultwrap noauth v1

[filter:faultwrap]
use = egg:apid#faultwrap

[filter:noauth]
use = egg:apid#noauth
without_token = serve

[app:v1]
use = egg:apid#api
"""


@pytest.mark.slow
def test_the_health_check_tells_that_the_database_is_away_only_where_it_is_asked_to(daemon, tmp_path):
    file = tmp_path / "zoo.sqlite"
    running = daemon(paste=HEALTH, sections={"database": {"connection": f"sqlite:///{file}"}}, workers=1).start()
    assert get(running.address, "/v1/animals").status == 200
    assert get(running.address, "/ready").text == "OK"
    file.rename(tmp_path / "away")
    wait_until(
        lambda: get(running.address, "/ready").status == 503, "the check says so"
    )  # an answer holds for a second
    assert get(running.address, "/ready").text == "DATABASE NOT AVAILABLE"
    assert not file.exists()  # looking makes nothing
    assert get(running.address, "/healthcheck").status == 200
    (tmp_path / "away").rename(file)
    wait_until(lambda: get(running.address, "/ready").status == 200, "the check says so")
