"""The cors filter: oslo.middleware's answers for requests with Origin; the others do not pay for it."""

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import cors
from tests.wsgi.middleware.wire import Seen, ask

ORIGIN = "https://horizon.example.com"


def test_simple_request():
    wrap = cors.factory({}, allowed_origin=ORIGIN, expose_headers="X-Thing", max_age="60")
    answer = ask(wrap, Seen(), origin=ORIGIN)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Thing" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in ask(wrap, Seen(), origin="https://evil.example").headers
    assert "Access-Control-Allow-Origin" not in ask(wrap, Seen()).headers


def test_preflight():
    wrap = cors.factory({}, allowed_origin=f"{ORIGIN}, https://b.example", allow_headers="X-Auth-Token", max_age="60")
    asked = {"access_control_request_method": "PUT", "access_control_request_headers": "x-auth-token"}
    answer = ask(wrap, Seen(), method="OPTIONS", origin=ORIGIN, **asked)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT"
    assert answer.headers["Access-Control-Max-Age"] == "60"
    refused = ask(wrap, Seen(), method="OPTIONS", origin=ORIGIN, access_control_request_method="BREW")
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_two_filters_do_not_share_their_options():
    first, second = cors.factory({}, allowed_origin=ORIGIN), cors.factory({}, allowed_origin="https://b.example")
    one, two = first(Seen()), second(Seen())
    assert "Access-Control-Allow-Origin" in ask(lambda _: one, None, origin=ORIGIN).headers
    assert "Access-Control-Allow-Origin" not in ask(lambda _: two, None, origin=ORIGIN).headers


@pytest.mark.parametrize(
    "conf",
    [{}, {"allowed_origin": "horizon"}, {"allowed_origin": ORIGIN + "/"}, {"allowed_origin": ORIGIN, "max_age": "x"}],
)
def test_wrong_options(conf):
    with pytest.raises(OptionError, match="cors: option"):
        cors.factory({}, **conf)
