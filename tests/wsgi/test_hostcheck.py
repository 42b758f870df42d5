"""Metrics and dashboard answer only under their own names: DNS rebinding lets a page in a browser reach any address."""

from __future__ import annotations

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import healthcheck
from apid.wsgi.monitoring import dashboard, metrics
from tests.support.status_document import document


def ask(app, path, host, **environ):
    seen = []
    request = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "REMOTE_ADDR": "192.0.2.9",
        "SERVER_NAME": "192.0.2.7",
        "apid.status": lambda **_: document(),
        **({} if host is None else {"HTTP_HOST": host}),
        **environ,
    }
    body = app(request, lambda status, _headers, _exc_info=None: seen.append(int(status[:3])))
    close = getattr(body, "close", None)
    text = b"" if close else b"".join(body)
    if close:
        close()
    return seen[0], text


APPS = [(metrics, "/"), (dashboard, "/"), (dashboard, "/events"), (dashboard, "/style.css")]


@pytest.mark.parametrize(("module", "path"), APPS)
@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:8081", 200),
        ("127.0.0.1:8081", 200),
        ("[::1]:8081", 200),
        ("192.0.2.7:8081", 200),
        (None, 200),
        ("evil.example:8081", 421),
        ("192.0.2.8", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_without_an_option(module, path, host, code):
    assert ask(module.app({}), path, host)[0] == code


@pytest.mark.parametrize(("module", "path"), APPS)
def test_the_option(module, path):
    app = module.app({}, allowed_hosts="apid.example.org, own_address")
    assert [ask(app, path, host)[0] for host in ("apid.example.org", "192.0.2.7", "localhost")] == [200, 200, 421]
    assert ask(module.app({}, allowed_hosts="*"), path, "evil.example")[0] == 200


def test_the_refusal_names_the_option():
    code, text = ask(metrics.app({}), "/", "evil.example")
    assert code == 421
    assert b"option allowed_hosts" in text
    assert b"evil" not in text


def test_what_a_proxy_said_is_no_address_of_ours():
    """SERVER_NAME is X-Forwarded-Host's where that is believed."""
    assert ask(metrics.app({}), "/", "evil.example", SERVER_NAME="evil.example")[0] == 421


def test_a_unix_socket_has_no_name_that_a_browser_could_reach():
    assert ask(metrics.app({}), "/", "admin", REMOTE_ADDR="")[0] == 200


def test_the_health_check_answers_under_any_name():
    assert ask(healthcheck.app({}), "", "anything.example")[0] == 200


def test_a_host_with_a_port_fails_the_load():
    with pytest.raises(OptionError, match="is no host"):
        metrics.app({}, allowed_hosts="a:80")
