"""A real Keystone, served by apid, and an API behind authtoken: a token that is good, revoked, expired, forged; Keystone away."""

from __future__ import annotations

import socket

import pytest

from tests.support.client import get
from tests.support.daemon import Daemon
from tests.support.keystone import PASSWORD, Keystone, environment
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

WHOAMI_APP = """
import json
def factory(global_conf, **local_conf):
    def app(environ, start_response):
        who = environ.get("apid.context")
        seen = {
            "user": who and who.user_name, "project": who and who.project_name, "roles": who and sorted(who.roles),
            "admin": who and who.is_admin, "scope": environ.get("HTTP_OPENSTACK_SYSTEM_SCOPE"),
            "headers": sorted(value for key, value in environ.items() if key.startswith("HTTP_") and value == "forged"),
        }
        body = json.dumps(seen).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
    return app
"""

API_PASTE = """
[composite:main]
use = egg:apid#urlmap
/ = strict
/late = late

[pipeline:strict]
pipeline = requestid authtoken keystonecontext whoami

[pipeline:late]
pipeline = requestid authtoken_late whoami

[filter:requestid]
use = egg:apid#requestid

[filter:authtoken]
use = egg:apid#authtoken
auth_type = password
auth_url = {url}/v3
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
interface = public
www_authenticate_uri = {url}/
token_cache_time = -1
http_request_max_retries = 0

[filter:authtoken_late]
use = authtoken
delay_auth_decision = true

[filter:keystonecontext]
use = egg:apid#keystonecontext

[app:whoami]
paste.app_factory = whoami:factory
"""

FORGED = dict.fromkeys(
    ("X-User-Id", "X-User-Name", "X-Roles", "X-Project-Name", "X-Service-Roles", "OpenStack-System-Scope", "X-User"),
    "forged",
)


@pytest.fixture(scope="module")
def venv():
    """Keystone, keystonemiddleware and this checkout in an environment of their own; they are heavy."""
    return environment()


@pytest.fixture(scope="module")
def keystone(venv, tmp_path_factory):
    made = Keystone(tmp_path_factory.mktemp("keystone"), venv)
    yield made
    made.daemon.stop()


@pytest.fixture(scope="module")
def api(keystone, tmp_path_factory):
    directory = tmp_path_factory.mktemp("api")
    (directory / "whoami.py").write_text(WHOAMI_APP)
    paste = API_PASTE.format(url=keystone.url, password=PASSWORD)
    with Daemon(
        directory,
        paste=paste,
        program=[str(keystone.venv / "apid")],
        environment={"PYTHONWARNINGS": "ignore"},
        workers=2,
    ) as daemon:
        yield daemon
    assert PASSWORD not in daemon.log()


def test_without_a_token(api, keystone):
    answer = get(api.address)
    assert answer.status == 401
    assert answer.header("WWW-Authenticate") == f'Keystone uri="{keystone.url}/"'
    error = answer.json()["error"]
    assert (error["code"], error["title"]) == (401, "Unauthorized")
    assert error["request_id"] == answer.header("X-Openstack-Request-Id")


def test_a_good_token_and_what_the_client_claims_besides(api, keystone):
    answer = get(api.address, headers={"X-Auth-Token": keystone.token(), **FORGED})
    assert answer.status == 200, answer.text
    seen = answer.json()
    assert (seen["user"], seen["project"], seen["admin"]) == ("admin", "admin", True)
    assert "admin" in seen["roles"]
    assert seen["headers"] == []
    assert seen["scope"] in (None, "")


@pytest.mark.parametrize("token", ["nonsense", "gAAAAA", "a" * 4000])
def test_a_token_that_is_none(api, token):
    assert get(api.address, headers={"X-Auth-Token": token}).status == 401


def test_a_revoked_token(api, keystone):
    token = keystone.token()
    assert get(api.address, headers={"X-Auth-Token": token}).status == 200
    keystone.revoke(token)
    assert get(api.address, headers={"X-Auth-Token": token}).status == 401
    assert get(api.address, headers={"X-Auth-Token": keystone.token()}).status == 200


def test_with_delay_auth_decision_a_forged_scope_does_not_get_through(api):
    """keystonemiddleware lets the request on, and its own list of headers to remove lacks this one."""
    for token in ({}, {"X-Auth-Token": "nonsense"}):
        answer = get(api.address, "/late", headers={**FORGED, **token})
        assert answer.status == 200
        assert (answer.json()["scope"], answer.json()["headers"]) == (None, [])


def test_an_expired_token(api, keystone):
    """Keystone is told to give tokens of ten seconds, by a reload."""
    keystone.configure(10)
    keystone.daemon.apidctl("reload")
    try:
        token = keystone.token()
        assert get(api.address, headers={"X-Auth-Token": token}).status == 200
        wait_until(lambda: get(api.address, headers={"X-Auth-Token": token}).status == 401, "the token's end", 30)
    finally:
        keystone.configure(3600)
        keystone.daemon.apidctl("reload")
    assert get(api.address, headers={"X-Auth-Token": keystone.token()}).status == 200


def test_an_unknown_option_fails_the_check(keystone, api, tmp_path):
    paste = api.paste.read_text().replace("http_request_max_retries", "http_request_max_retrys")
    (tmp_path / "whoami.py").write_text(WHOAMI_APP)
    broken = Daemon(tmp_path, paste=paste, program=[str(keystone.venv / "apid")], arguments=["--check-config"])
    broken.environment["PYTHONWARNINGS"] = "ignore"
    assert broken.launch().wait() == 2
    assert "authtoken: option http_request_max_retrys: is not known" in broken.log()


def test_keystone_away_is_503(keystone, api, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refused for as long as this test runs
        paste = api.paste.read_text().replace(keystone.url, f"http://127.0.0.1:{closed.getsockname()[1]}")
        (tmp_path / "whoami.py").write_text(WHOAMI_APP)
        program, environment = [str(keystone.venv / "apid")], {"PYTHONWARNINGS": "ignore"}
        with Daemon(tmp_path, paste=paste, program=program, environment=environment, workers=1) as daemon:
            answer = get(daemon.address, headers={"X-Auth-Token": keystone.token()})
    assert answer.status == 503
    fault = answer.json()["serviceUnavailable"]
    assert fault["request_id"] == answer.header("X-Openstack-Request-Id")
    assert "127.0.0.1" not in answer.text
