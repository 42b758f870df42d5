"""apid serves the prototypes that it grew from (tests/fixtures/originals) as they stand."""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest

from tests.support.client import Connection, get

ORIGINALS = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "originals"


@pytest.fixture
def original(daemon):
    """Start a daemon for one of them, in the manner of an operator: its directory importable, its ini named."""

    def start(name, ini, app="main", **options):
        directory = ORIGINALS / name
        paste = {"config_file": ini if os.path.isabs(ini) else directory / ini, "app_name": app}  # noqa: PTH117 - a string
        environment = {"PYTHONPATH": str(directory)}
        return daemon(sections={"paste_deploy": paste}, environment=environment, workers=1, **options).start()

    return start


def test_none_of_them_knows_apid():
    sources = list(ORIGINALS.rglob("*.py")) + list(ORIGINALS.rglob("*.ini"))
    assert len(sources) >= 14
    assert not [path for path in sources if re.search(r"\bapid\b", path.read_text(encoding="utf-8"))]


@pytest.mark.both_engines
def test_a_router_whose_versions_controller_answers_300(original):
    one = original("choudan", "choudanview.ini", app="choudanview")
    with Connection(one.address) as connection:
        answer = connection.request("GET", "/")
        assert (answer.status, answer.reason) == (300, "Multiple Choices")
        assert answer.header("Content-Type") == "application/json"
        assert answer.json() == {"versions": "0.1"}
        assert connection.request("GET", "/nowhere").status == 404
        assert connection.request("HEAD", "/").body == b""
        assert connection.request("GET", "/").json() == {"versions": "0.1"}
    assert one.stop() == 0


@pytest.mark.both_engines
def test_a_bare_class_behind_a_filter_in_a_composite(original):
    one = original("animals", "animal.ini")
    answer = get(one.address, headers={"Host": "127.0.0.1"})
    assert (answer.status, answer.body) == (200, b"This is an animal application!\r\n")
    answer = get(one.address, headers={"Host": "192.0.2.1:80"})
    assert (answer.status, answer.body) == (403, b"Forbidden")
    assert one.stop() == 0


@pytest.fixture
def nova(original, tmp_path):
    def start(strategy, rate_limit="true"):
        text = (ORIGINALS / "novalike" / "api-paste.ini").read_text(encoding="utf-8")
        text = text.replace("auth_strategy = noauth", f"auth_strategy = {strategy}")
        text = text.replace("api_rate_limit = true", f"api_rate_limit = {rate_limit}")
        ini = tmp_path / "nova.ini"
        ini.write_text(text, encoding="utf-8")
        return original("novalike", str(ini), app="osapi_compute")

    return start


FRONT = ["FaultWrapper", "RequestBodySizeLimiter"]
BOTH = ["AuthToken", "NovaKeystoneContext"]


@pytest.mark.parametrize(
    ("strategy", "rate_limit", "trail"),
    [
        ("noauth", "true", [*FRONT, "NoAuthMiddleware", "RateLimitingMiddleware"]),
        ("keystone", "true", [*FRONT, *BOTH, "RateLimitingMiddleware"]),
        ("keystone", "false", [*FRONT, *BOTH]),
    ],
)
def test_the_pipeline_that_auth_strategy_chooses(nova, strategy, rate_limit, trail):
    one = nova(strategy, rate_limit)
    token = {"X-Auth-Token": "t1"}
    for version in ("/v2", "/v1.1"):
        answer = get(one.address, version + "/p/servers", headers=token)
        assert answer.status == 200, answer
        assert answer.json()["trail"] == trail
        assert answer.json()["user"] == ("admin" if strategy == "noauth" else "user of t1")
    assert get(one.address, "/v2/p/servers").status == (200 if strategy == "noauth" else 401)
    assert one.stop() == 0


@pytest.mark.both_engines
def test_everything_else_that_nova_does_on_one_connection(nova):
    one = nova("noauth")
    with Connection(one.address) as connection:
        answer = connection.request("GET", "/")
        assert answer.status == 300
        assert [version["id"] for version in answer.json()["versions"]] == ["v2.0", "v3.0"]
        assert connection.request("GET", "/v2/p/servers/1").json() == {"server": {"id": "1", "ratio": 1}}
        fault = connection.request("GET", "/v2/p/servers/0")
        assert (fault.status, fault.json()["computeFault"]["code"]) == (500, 500)
        body = json.dumps({"server": {"name": "n"}}).encode()
        created = connection.request("POST", "/v2/p/servers", body=body)
        assert (created.status, created.json()) == (202, {"server": {"name": "n"}})
        assert connection.request("GET", "/v2/p/nothing").status == 404
        assert connection.request("GET", "/v4").status == 404
        statuses = [connection.request("GET", "/v3/servers").status for _ in range(7)]
        assert statuses == [200] * 5 + [413] * 2
    with Connection(one.address) as connection:
        assert connection.request("POST", "/v2/p/servers", body=b"x" * 114689).status == 413
    assert one.stop() == 0
