"""The noauth filters: nova's answer without a token, nova's reading of one."""

import pytest

from apid.wsgi.middleware import noauth
from tests.wsgi.middleware.wire import Seen, ask


def test_without_a_token_one_is_issued():
    answer = ask(noauth.factory(), Seen(), "/v2", x_auth_user="joe", x_auth_project_id="p1", HTTP_HOST="api:8774")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers == {"X-Auth-Token": "joe:p1", "X-Server-Management-Url": "http://api:8774/v2/p1"}
    assert ask(noauth.factory(), Seen()).headers["X-Auth-Token"] == "admin:admin"


def test_noauth2_leaves_the_project_out_of_the_url():
    answer = ask(noauth.factory2(), Seen(), "/v2.1", HTTP_HOST="api:8774")
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
