"""T5: keystoneauth1, which openstacksdk stands on, finds its way through the shipped pipeline on the real daemon."""

from __future__ import annotations

import pathlib

import pytest
from keystoneauth1 import adapter, discover, session
from keystoneauth1 import noauth as noauth_plugin

from tests.support.client import get

SHIPPED = pathlib.Path(__file__).parents[2] / "etc" / "apid" / "api-paste.ini"

pytestmark = pytest.mark.slow


@pytest.fixture
def url(daemon):
    running = daemon(paste=SHIPPED.read_text(encoding="utf-8"), workers=1).start()
    return f"http://127.0.0.1:{running.port}"


@pytest.fixture
def client():
    made = session.Session()
    yield made
    made.session.close()


@pytest.mark.parametrize("start", ["", "/", "/v1", "/v1/"])
def test_discovery_from_any_address(url, client, start):
    found = discover.Discover(client, url + start)
    (data,) = found.version_data()
    assert data["version"] == (1, 0)
    assert data["raw_status"] == "CURRENT"
    assert data["url"].rstrip("/") == f"{url}/v1"
    assert found.url_for("1").rstrip("/") == f"{url}/v1"
    assert found.url_for("1.latest").rstrip("/") == f"{url}/v1"
    assert found.url_for("2") is None


def test_an_adapter_reaches_the_version_it_wants(url, client):
    reached = adapter.Adapter(
        client, auth=noauth_plugin.NoAuth(endpoint=url), service_type="apid", min_version="1", max_version="1.latest"
    )
    answer = reached.get("/v1/extensions")
    assert (answer.status_code, list(answer.json())) == (200, ["extensions"])
    assert answer.headers["X-Openstack-Request-Id"].startswith("req-")
    answer.close()


def test_the_fault_has_the_id_of_the_header(url):
    host, port = url.removeprefix("http://").split(":")
    answer = get((host, int(port)), "/nope")
    assert answer.status == 404
    assert answer.json()["itemNotFound"]["request_id"] == answer.header("X-Openstack-Request-Id")
