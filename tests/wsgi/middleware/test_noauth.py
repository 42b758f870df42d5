"""The noauth filters: nova's answer without a token, nova's reading of one."""

import pytest

from apid.wsgi.middleware import noauth
from tests.wsgi.middleware.wire import Seen, ask


def test_without_a_token_one_is_issued():
    answer = ask(
        noauth.factory({}, allowed_hosts="api"),
        Seen(),
        "/v2",
        x_auth_user="joe",
        x_auth_project_id="p1",
        HTTP_HOST="api:8774",
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers == {"X-Auth-Token": "joe:p1", "X-Server-Management-Url": "http://api:8774/v2/p1"}
    assert ask(noauth.factory(), Seen()).headers["X-Auth-Token"] == "admin:admin"


def test_noauth2_leaves_the_project_out_of_the_url():
    answer = ask(noauth.factory2({}, allowed_hosts="api"), Seen(), "/v2.1", HTTP_HOST="api:8774")
    assert answer.headers["X-Server-Management-Url"] == "http://api:8774/v2.1"


@pytest.mark.parametrize(
    ("factory", "token", "user", "project", "admin"),
    [
        (noauth.factory, "joe:p1", "joe", "p1", True),
        (noauth.factory, "joe", "joe", "joe", True),
        (noauth.factory2, "joe:p1", "joe", "p1", False),
        (noauth.factory2, "admin:p1", "admin", "p1", True),
    ],
)
def test_with_a_token(factory, token, user, project, admin):
    app = Seen()
    assert ask(factory(), app, x_auth_token=token, **{"openstack.request_id": "req-1"}).status == 200
    who = app.environ["apid.context"]
    assert (who.user_id, who.project_id, who.is_admin, who.request_id) == (user, project, admin, "req-1")
    assert app.environ["nova.context"] is who
    assert token not in repr(who) or ":" not in token


def test_serve_lets_a_request_without_a_token_through():
    app = Seen()
    assert ask(noauth.factory({}, without_token="serve"), app).status == 200
    assert app.environ["apid.context"].user_id == "admin"


@pytest.mark.parametrize("factory", [noauth.factory, noauth.factory2])
@pytest.mark.parametrize("without_token", ["serve", "issue"])
@pytest.mark.parametrize("token", [None, "admin:p1"])
@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost:8080", True),
        ("LOCALHOST.", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_other_hosts_than_its_own_are_refused(factory, without_token, token, host, served):
    """DNS rebinding: the name of a web page resolves to this address, and the browser sends it as Host."""
    app = Seen()
    headers = {"x_auth_token": token} if token else {}
    answer = ask(factory({}, without_token=without_token), app, HTTP_HOST=host, SERVER_NAME="192.0.2.7", **headers)
    assert (answer.status != 421) is served
    assert served or (app.environ is None and "X-Auth-Token" not in answer.headers)
    assert served or b"option allowed_hosts" in answer.body


def test_the_hosts_of_the_listener_decide_where_the_filter_has_none():
    allowed = {"HTTP_HOST": "api.example", noauth.HOST_ALLOWED: True}
    assert ask(noauth.factory(), Seen(), x_auth_token="a", **allowed).status == 200
    assert ask(noauth.factory({}, allowed_hosts="other.example"), Seen(), x_auth_token="a", **allowed).status == 421


def test_a_peer_on_a_unix_socket_has_no_browser():
    assert ask(noauth.factory(), Seen(), x_auth_token="a", HTTP_HOST="anything", REMOTE_ADDR="").status == 200
