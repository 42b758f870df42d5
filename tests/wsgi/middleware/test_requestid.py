"""The requestid filter: one id a request, on every answer; a client's id is kept apart and only when it is one."""

import re

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import requestid
from tests.wsgi.middleware.wire import Seen, ask

OTHER = "req-0a1b2c3d-0000-4000-8000-0123456789ab"


def test_new_id_in_environ_and_on_the_answer():
    app = Seen()
    first = ask(requestid.factory(), app).headers["X-Openstack-Request-Id"]
    assert re.fullmatch(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)
    assert app.environ["openstack.request_id"] == first
    assert "openstack.global_request_id" not in app.environ
    assert ask(requestid.factory(), app).headers["X-Openstack-Request-Id"] != first


def test_the_servers_id_is_taken():
    answer = ask(requestid.factory(), Seen(), **{"apid.request_id": OTHER})
    assert answer.headers["X-Openstack-Request-Id"] == OTHER


def test_an_inbound_id_becomes_the_global_one():
    app = Seen()
    answer = ask(requestid.factory(), app, x_openstack_request_id=OTHER)
    assert app.environ["openstack.global_request_id"] == OTHER
    assert answer.headers["X-Openstack-Request-Id"] == app.environ["openstack.request_id"] != OTHER


@pytest.mark.parametrize("sent", ["", "req-", OTHER.upper(), OTHER + "\n", "x" + OTHER, OTHER + "; DROP", OTHER[4:]])
def test_anything_else_inbound_is_ignored(sent):
    app = Seen()
    ask(requestid.factory(), app, x_openstack_request_id=sent)
    assert "openstack.global_request_id" not in app.environ


def test_an_id_set_by_the_application_is_replaced_not_doubled():
    app = Seen([("x-openstack-request-id", "req-mine"), ("x-trans-id", "tx1")])
    answer = ask(requestid.factory(compat_headers="x-compute-request-id, X-Trans-Id"), app)
    own = answer.headers["X-Openstack-Request-Id"]
    assert answer.headers["x-compute-request-id"] == answer.headers["X-Trans-Id"] == own != "req-mine"


def test_a_bad_compat_header_is_an_error():
    with pytest.raises(OptionError, match="requestid: option compat_headers = a b: must be a list"):
        requestid.factory({}, compat_headers="a b")
