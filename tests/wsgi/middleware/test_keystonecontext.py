"""The keystonecontext filter: authtoken's headers become the context; without authtoken nobody is believed."""

import pytest

from apid.wsgi.middleware import keystonecontext
from tests.wsgi.middleware.wire import Seen, ask

CONFIRMED = {"keystone.token_auth": object()}


def test_all_of_it():
    app = Seen()
    answer = ask(
        keystonecontext.factory(),
        app,
        x_user_id="u1",
        x_user_name="joe",
        x_project_id="p1",
        x_project_name="shop",
        x_roles="Admin, member ,",
        x_auth_token="secret-token",
        x_service_catalog='[{"type": "identity"}]',
        x_user_domain_id="default",
        openstack_system_scope="all",
        **CONFIRMED,
        **{"openstack.request_id": "req-1", "openstack.global_request_id": "req-2"},
    )
    assert answer.status == 200
    who = app.environ["apid.context"]
    assert app.environ["nova.context"] is who
    assert (who.user_id, who.user_name, who.project_id, who.project_name) == ("u1", "joe", "p1", "shop")
    assert (who.roles, who.is_admin) == (("Admin", "member"), True)
    assert (who.request_id, who.global_request_id, who.auth_token) == ("req-1", "req-2", "secret-token")
    assert who.service_catalog == [{"type": "identity"}]
    assert (who.extra["user_domain_id"], who.extra["system_scope"]) == ("default", "all")
    assert "secret-token" not in repr(who)


def test_the_old_names():
    app = Seen()
    ask(keystonecontext.factory(), app, x_user="u1", x_tenant="p1", x_role="member", x_storage_token="t", **CONFIRMED)
    who = app.environ["apid.context"]
    assert (who.user_id, who.project_id, who.roles, who.auth_token, who.is_admin) == (
        "u1",
        "p1",
        ("member",),
        "t",
        False,
    )


def test_admin_roles_are_configured():
    app = Seen()
    ask(keystonecontext.factory({}, admin_roles="boss"), app, x_user="u1", x_roles="Boss", **CONFIRMED)
    assert app.environ["apid.context"].is_admin
    ask(keystonecontext.factory({}, admin_roles="boss"), app, x_user="u1", x_roles="admin", **CONFIRMED)
    assert not app.environ["apid.context"].is_admin


def test_nobody_is_401():
    answer = ask(keystonecontext.factory(), Seen(), x_roles="admin", **CONFIRMED)
    assert (answer.status, answer.json["unauthorized"]["code"]) == (401, 401)


def test_a_broken_catalogue_is_500_and_told_in_the_log(caplog):
    answer = ask(keystonecontext.factory(), Seen(), x_user_id="u1", x_service_catalog="{", **CONFIRMED)
    assert answer.status == 500
    assert "X-Service-Catalog is not JSON" in caplog.text


@pytest.mark.parametrize(("conf", "status"), [({}, 500), ({"require_authtoken": "false"}, 200)])
def test_without_authtoken_before_it(conf, status, caplog):
    answer = ask(keystonecontext.factory({}, **conf), Seen(), x_user_id="forged", x_roles="admin")
    assert answer.status == status
    assert b"authtoken" not in answer.body
    assert ("no authtoken filter" in caplog.text) is (status == 500)
