"""The default API as keystoneauth1's session sees it, which is what every OpenStack client is built on."""

from __future__ import annotations

import pytest
from keystoneauth1 import adapter, exceptions, session, token_endpoint

from tests.support.daemon import TOP

pytestmark = pytest.mark.slow

SHIPPED = TOP / "etc" / "apid" / "api-paste.ini"


@pytest.fixture
def zoo(daemon):
    running = daemon(sections={"paste_deploy": {"config_file": SHIPPED}}, workers=1).start()
    auth = token_endpoint.Token(f"http://127.0.0.1:{running.port}/v1", "ann:p1")
    one = session.Session(auth=auth)
    yield adapter.Adapter(one, service_type="zoo", default_microversion="1.2")
    one.session.close()


def create(zoo, name):
    answer = zoo.post("/animals", json={"animal": {"name": name, "species": "dog", "tags": ["good"]}})
    assert answer.status_code == 201
    return answer.json()["animal"]


def test_discovery_finds_version_and_microversions(zoo):
    found = zoo.get_endpoint_data()
    assert found.api_version[0] == 1
    assert (found.min_microversion, found.max_microversion) == ((1, 0), (1, 2))


def test_animals_are_created_listed_page_by_page_changed_and_deleted(zoo):
    made = [create(zoo, f"n{number}") for number in range(5)]
    assert made[0]["tags"] == ["good"]
    assert made[0]["project_id"] == "p1"
    seen, target = [], "/animals?limit=2"
    while target:
        page = zoo.get(target).json()
        seen += [animal["id"] for animal in page["animals"]]
        target = next((link["href"] for link in page.get("animals_links", []) if link["rel"] == "next"), None)
    assert seen == [animal["id"] for animal in made]
    path = f"/animals/{made[0]['id']}"
    adopted = zoo.post(f"{path}/action", json={"adopt": {"by": "Ann"}})
    assert adopted.json()["animal"]["status"] == "adopted"
    assert zoo.delete(path, headers={"If-Match": adopted.headers["ETag"]}).status_code == 204
    with pytest.raises(exceptions.NotFound):
        zoo.get(path)


def test_errors_carry_their_message_and_the_request_id(zoo):
    create(zoo, "Rex")
    body = {"animal": {"name": "Rex", "species": "dog"}}
    conflict = zoo.post("/animals", json=body, raise_exc=False)
    # keystoneauth1's exceptions show the messages of keystone's and api-sig's forms only, not those of nova's, which this is
    (fault,) = conflict.json().values()
    assert (conflict.status_code, fault["code"]) == (409, 409)
    assert "has an animal of this name" in fault["message"]
    assert conflict.headers["X-Openstack-Request-Id"].startswith("req-")
    refused = zoo.get("/animals", microversion="1.9", raise_exc=False)
    assert refused.status_code == 406
    refused.close()
