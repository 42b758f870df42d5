"""T4, S6: whatever filter refuses, the client gets a JSON fault with code, message and request id, and nothing of the inside."""

import re

import pytest
from paste.deploy import loadapp

from tests.wsgi.middleware.wire import ask

INI = """
[pipeline:main]
pipeline = faultwrap requestid subject app

[filter:faultwrap]
use = egg:apid#faultwrap

[filter:requestid]
use = egg:apid#requestid

[filter:subject]
{subject}

[app:app]
{app}
"""

HEALTH = "use = egg:apid#healthcheck"
LIMITS = "use = egg:apid#limits"
POST = {"method": "POST", "body": b"x" * 20}
RATE = "use = egg:apid#ratelimit\nlimits = (GET, *, .*, 1, DAY)\nname = {directory}\nstate_dir = {directory}"


@pytest.mark.parametrize(
    ("subject", "app", "request_", "code", "name"),
    [
        ("use = egg:apid#sizelimit\nmax_body_size = 10", HEALTH, POST, 413, "overLimit"),
        ("use = egg:apid#sizelimit\nmax_body_size = 10", HEALTH, {**POST, "length": False}, 405, "badMethod"),
        ("use = egg:apid#ipfilter\ndeny = 0.0.0.0/0", HEALTH, {}, 403, "forbidden"),
        ("use = egg:apid#keystonecontext", HEALTH, {"x_user_id": "forged"}, 500, "computeFault"),
        ("use = egg:apid#keystonecontext\nrequire_authtoken = no", HEALTH, {}, 401, "unauthorized"),
        (
            "use = egg:apid#keystonecontext\nrequire_authtoken = no",
            HEALTH,
            {"x_user_id": "u", "x_service_catalog": "{"},
            500,
            "computeFault",
        ),
        ("use = egg:apid#requestid", HEALTH, POST, 405, "badMethod"),
        ("use = egg:apid#requestid", LIMITS, {"path": "/x"}, 404, "itemNotFound"),
        ("use = egg:apid#requestid", LIMITS, POST, 405, "badMethod"),
        (RATE, HEALTH, {}, 429, "overLimit"),
        (
            RATE.replace("state_dir", "on_error = deny\nstorage = redis://127.0.0.1:1/0\nstate_dir"),
            HEALTH,
            {},
            503,
            "serviceUnavailable",
        ),
    ],
)
def test_every_refusal_is_a_fault(tmp_path, subject, app, request_, code, name, tables_closed):
    ini = tmp_path / "api-paste.ini"
    ini.write_text(INI.format(subject=subject.replace("{directory}", str(tmp_path)), app=app))
    made = loadapp(f"config:{ini}")
    tables_closed.append(made)
    if code == 429:
        assert ask(lambda _: made, None).status == 200
    answer = ask(lambda _: made, None, **request_)
    assert answer.status == code
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    (fault,) = answer.json.items()
    assert fault[0] == name
    assert fault[1]["code"] == code
    assert fault[1]["message"]
    assert fault[1]["request_id"] == answer.headers["X-Openstack-Request-Id"]
    for inside in ("Traceback", 'File "', "apid", str(tmp_path), "redis", "127.0.0.1", "authtoken"):
        assert inside not in answer.body.decode()
    assert not re.search(r"\d+\.\d+\.\d+", answer.body.decode())  # a version or an address
