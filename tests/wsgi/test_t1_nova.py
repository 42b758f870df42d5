"""T1: the pipeline of nova's 2013 ini, with nova's key names, by changing module names only."""

from __future__ import annotations

from pathlib import Path

import pytest
from paste.deploy import loadapp

from apid.wsgi.testing import Client

INI = Path(__file__).parent / "ini" / "nova-2013.ini"


class StubAuthToken:
    """What authtoken does for a good token, without a Keystone: `user:project` becomes the identity headers."""

    def __init__(self, app):
        self.app = app

    @classmethod
    def factory(cls, global_conf, **local_conf):
        return cls

    def __call__(self, environ, start_response):
        user, _, project = environ.get("HTTP_X_AUTH_TOKEN", "").partition(":")
        if user:
            environ.update(HTTP_X_USER_ID=user, HTTP_X_PROJECT_ID=project, HTTP_X_ROLES="member, reader")
        environ["keystone.token_auth"] = object()
        return self.app(environ, start_response)


@pytest.fixture
def load(tmp_path, tables_closed):
    """Load the ini with one line changed; a directory of its own, because limits are counted by ini file."""

    def make(**changes):
        text = INI.read_text()
        for old, new in changes.get("replace", {}).items():
            assert old in text
            text = text.replace(old, new)
        target = tmp_path / "api-paste.ini"
        limiter = "paste.filter_factory = apid.wsgi.nova:RateLimiting"
        target.write_text(text.replace(limiter, f"state_dir = {tmp_path}\n{limiter}"))
        application = loadapp(f"config:{target}", name="osapi_compute", global_conf=changes.get("conf", {}))
        tables_closed.append(application)
        return Client(application)

    return make


def test_noauth(load):
    client = load()
    assert client.get("/").code == 300
    issued = client.get("/v1/", headers={"X-Auth-User": "u", "X-Auth-Project-Id": "p"})
    assert issued.code == 204
    assert issued.headers["X-Auth-Token"] == "u:p"
    answer = client.get("/v1/extensions", headers={"X-Auth-Token": "u:p"})
    assert answer.code == 200
    assert [extension["alias"] for extension in answer.json["extensions"]] == ["apid-days"]


def test_the_rate_limit(load):
    client = load()
    codes = [client.get("/v1/extensions", headers={"X-Auth-Token": "u:p"}).code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    refused = client.get("/v1/extensions", headers={"X-Auth-Token": "u:p"})
    assert refused.json["overLimit"]["code"] == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 20
    assert client.get("/v1/extensions", headers={"X-Auth-Token": "other:p"}).code == 200


def test_keystone_and_keystone_nolimit(load):
    client = load(conf={"auth_strategy": "keystone"})
    assert client.get("/v1/extensions").code == 401
    token = {"X-Auth-Token": "u:p"}
    assert [client.get("/v1/extensions", headers=token).code for _ in range(4)] == [200, 200, 200, 429]
    client = load(conf={"auth_strategy": "keystone", "api_rate_limit": "False"})
    assert [client.get("/v1/extensions", headers=token).code for _ in range(5)] == [200] * 5


def test_the_size_limit_is_a_fault(load):
    answer = load().put("/v1/extensions", body=b" " * 114689, headers={"X-Auth-Token": "u:p"})
    assert (answer.code, answer.json["overLimit"]["code"]) == (413, 413)


GLANCE = """
[composite:rootapp]
use = egg:apid#urlmap
/: apiversions
/v1: api

[pipeline:apiversions]
pipeline = faultwrap versionapp
[app:versionapp]
use = egg:apid#versions
[composite:api]
use = egg:apid#flavor
default = faultwrap noauth apiv1app
keystone = faultwrap authtoken keystonecontext apiv1app
[app:apiv1app]
use = egg:apid#api
[filter:faultwrap]
use = egg:apid#faultwrap
[filter:noauth]
use = egg:apid#noauth
without_token = serve
[filter:keystonecontext]
use = egg:apid#keystonecontext
[filter:authtoken]
paste.filter_factory = tests.wsgi.test_t1_nova:StubAuthToken.factory
"""


@pytest.mark.parametrize(("conf", "anonymous"), [({}, 200), ({"flavor": "keystone"}, 401)])
def test_glances_flavor(tmp_path, conf, anonymous):
    (tmp_path / "glance.ini").write_text(GLANCE)
    client = Client(loadapp(f"config:{tmp_path / 'glance.ini'}", name="rootapp", global_conf=conf))
    assert client.get("/").code == 300
    assert client.get("/v1/extensions").code == anonymous
    assert client.get("/v1/extensions", headers={"X-Auth-Token": "u:p"}).code == 200


def test_an_unknown_strategy_says_which_there_are(load):
    with pytest.raises(ValueError, match="auth_strategy = ldap; there are: keystone, keystone_nolimit, noauth"):
        load(conf={"auth_strategy": "ldap"})


def test_a_mistaken_option_names_the_filter(load):
    with pytest.raises(ValueError, match="ratelimit: option limit"):
        load(replace={"limits = (GET": "limit = (GET"})
