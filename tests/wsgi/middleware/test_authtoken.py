"""The authtoken filter around keystonemiddleware; with the real one and a real Keystone: tests/wsgi/test_keystone.py."""

import subprocess
import sys

import pytest
import webob.exc

from apid.wsgi.middleware import authtoken
from tests.wsgi.middleware.wire import Seen, ask


def rejecting(error):
    """What keystonemiddleware's wsgify does with an exception of WebOb."""

    def protocol(app):
        return error()

    return lambda app: authtoken.AuthToken(app, protocol)


def passing(app):
    return authtoken.AuthToken(app, lambda inner: inner)


def test_everything_that_says_who_asks_is_removed():
    app = Seen()
    forged = dict.fromkeys((key.removeprefix("HTTP_").lower() for key in authtoken.SPOOFABLE), "forged")
    ask(passing, app, x_auth_token="kept", x_service_token="kept too", x_user_agent="curl", **forged)
    assert "forged" not in app.environ.values()
    assert (app.environ["HTTP_X_AUTH_TOKEN"], app.environ["HTTP_X_SERVICE_TOKEN"]) == ("kept", "kept too")
    for name in (
        "OPENSTACK_SYSTEM_SCOPE",
        "X_USER_ID",
        "X_ROLES",
        "X_SERVICE_ROLES",
        "X_IS_ADMIN_PROJECT",
        "X_IDENTITY_STATUS",
    ):
        assert f"HTTP_{name}" in authtoken.SPOOFABLE


def test_an_answer_of_the_application_passes_untouched():
    assert ask(passing, Seen([("X-Thing", "7")])).headers["X-Thing"] == "7"


def test_401_in_keystones_shape_with_the_request_id():
    def unauthorized():
        return webob.exc.HTTPUnauthorized(body=b"x", headers=[("WWW-Authenticate", 'Keystone uri="http://k/"')])

    answer = ask(rejecting(unauthorized), Seen(), **{"openstack.request_id": "req-1"})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Keystone uri="http://k/"')
    assert answer.json["error"]["code"] == 401
    assert answer.json["error"]["request_id"] == "req-1"


def test_503_is_a_fault():
    answer = ask(rejecting(webob.exc.HTTPServiceUnavailable), Seen())
    assert (answer.status, answer.json["serviceUnavailable"]["code"]) == (503, 503)


@pytest.mark.parametrize(
    ("filter_name", "package", "extra"),
    [("authtoken", "keystonemiddleware", "keystone"), ("cors", "oslo_middleware", "cors")],
)
def test_without_the_extra_the_error_says_what_to_install(filter_name, package, extra):
    conf = {"allowed_origin": "https://a.example"} if filter_name == "cors" else {}
    code = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from apid.wsgi.middleware import {filter_name}
try:
    {filter_name}.factory({{}}, **{conf!r})(object())
except ImportError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.startswith(f"{filter_name}: needs {package}, which is an extra: pip install 'apid[{extra}]'"), (
        run.stderr
    )
