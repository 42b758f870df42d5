"""The debug filter: nothing unless enabled, and never a secret."""

import logging

import pytest

from apid.wsgi.middleware import debug
from tests.wsgi.middleware.wire import Seen, ask


def test_off_by_default_is_the_application_itself():
    app = Seen()
    assert debug.factory()(app) is app


@pytest.fixture
def shown(caplog):
    caplog.set_level(logging.INFO, "apid.wsgi.middleware.debug")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def test_request_answer_and_length_are_shown(shown):
    ask(
        debug.factory({}, enabled="on"),
        Seen([("X-Thing", "7")]),
        "/things",
        user_agent="curl",
        QUERY_STRING="a=1&limit=5",
    )
    for part in (
        "REQUEST_METHOD=GET",
        "PATH_INFO=/things",
        "HTTP_USER_AGENT=curl",
        "a=1&limit=5",
        "200 OK",
        "X-Thing: 7",
        "2 bytes",
    ):
        assert part in shown()


def test_secrets_are_masked(shown):
    secret = "hunter2"
    ask(
        debug.factory({}, enabled="on"),
        Seen([("X-Subject-Token", secret), ("Set-Cookie", secret)]),
        "/",
        QUERY_STRING=f"temp_url_sig={secret}&token={secret}&b=2",
        **dict.fromkeys(
            ("authorization", "cookie", "x_auth_token", "x_service_token", "x_storage_token", "x_api_key"), secret
        ),
        x_auth_key=secret,
        proxy_authorization=secret,
        x_service_catalog=secret,
    )
    assert secret not in shown()
    assert "b=2" in shown()


def test_a_value_cannot_begin_a_line(shown):
    ask(debug.factory({}, enabled="on"), Seen(), "/a\r\nforged line", user_agent="x\nforged line")
    assert not [line for line in shown().splitlines() if line.startswith("forged")]
