"""Animals, called in-process over a real SQLite file; what PostgreSQL adds is in tests/process."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import pytest

from apid.api.app import API
from apid.api.db import migrate
from apid.api.db.connection import Database
from apid.wsgi.context import KEY, Context
from apid.wsgi.middleware.faultwrap import FaultWrapper
from apid.wsgi.testing import Client

LATEST = {"OpenStack-API-Version": "zoo latest"}


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/zoo.sqlite")
    migrate.prepare_sqlite(database)
    yield database
    database.dispose()


@pytest.fixture
def client(database):
    return make_client(database)


def make_client(database: Database, project: str = "p1", *, admin: bool = False, quota: int = -1) -> Client:
    who = Context(user_id="u", project_id=project, is_admin=admin)
    return Client(FaultWrapper(API(database, quota)), environ={KEY: who})


def create(client: Client, name: str = "Rex", species: str = "dog", **options: Any) -> dict[str, Any]:
    answer = client.post("/animals", json={"animal": {"name": name, "species": species}}, **options)
    assert answer.code == 201, answer.body
    return answer.json["animal"]


def test_one_is_created_shown_listed_and_deleted(client):
    answer = client.post("/animals", json={"animal": {"name": "Rex", "species": "dog"}})
    animal = answer.json["animal"]
    assert (answer.code, animal["name"], animal["status"]) == (201, "Rex", "available")
    assert answer.headers["Location"].endswith(f"/animals/{animal['id']}")
    shown = client.get(f"/animals/{animal['id']}")
    assert shown.headers["ETag"] == answer.headers["ETag"]
    assert {k: v for k, v in shown.json["animal"].items() if k != "apid-days:days"} == animal
    assert shown.json["animal"]["apid-days:days"] == 0
    assert [a["name"] for a in client.get("/animals").json["animals"]] == ["Rex"]
    assert client.get("/animals/detail").json["animals"] == [animal]
    assert client.delete(f"/animals/{animal['id']}").code == 204
    assert client.get(f"/animals/{animal['id']}").code == 404
    assert client.delete(f"/animals/{animal['id']}").code == 404


def test_the_project_may_stand_in_the_path_and_must_be_ones_own(client):
    create(client)
    assert len(client.get("/p1/animals").json["animals"]) == 1
    assert client.get("/p2/animals").code == 400


def test_tenants_see_only_their_own_and_an_administrator_all(database):
    one, two, admin = make_client(database), make_client(database, "p2"), make_client(database, "p0", admin=True)
    rex, tom = create(one), create(two, "Tom", "cat")
    assert [a["id"] for a in one.get("/animals").json["animals"]] == [rex["id"]]
    for method in ("get", "delete"):
        assert getattr(one, method)(f"/animals/{tom['id']}").code == 404
    assert one.get("/animals?all_projects=1").code == 403
    assert {a["id"] for a in admin.get("/animals?all_projects=1").json["animals"]} == {rex["id"], tom["id"]}
    assert admin.get("/animals").json["animals"] == []
    assert admin.get(f"/animals/{tom['id']}").code == 200


def test_pages_follow_each_other_in_any_order(client):
    for number in range(7):
        create(client, f"n{number}", "dog" if number % 2 else "cat")
    for query, wanted in [
        ("", [0, 1, 2, 3, 4, 5, 6]),
        ("sort_key=name&sort_dir=desc", [6, 5, 4, 3, 2, 1, 0]),
        ("sort_key=species&sort_key=name&sort_dir=asc&sort_dir=desc", [6, 4, 2, 0, 5, 3, 1]),
        ("species=dog", [1, 3, 5]),
    ]:
        seen: list[str] = []
        target = f"/animals?limit=2&{query}"
        for _ in range(9):
            page = client.get(target).json
            seen += [animal["name"] for animal in page["animals"]]
            if "animals_links" not in page:
                break
            target = page["animals_links"][0]["href"].partition("localhost")[2]
        assert seen == [f"n{number}" for number in wanted], query


def test_a_direction_without_a_key_is_that_of_the_usual_order(client):
    for name in "abc":
        create(client, name)
    assert [a["name"] for a in client.get("/animals?sort_dir=desc&limit=2").json["animals"]] == ["c", "b"]


@pytest.mark.parametrize(
    "path", ["/animals/{}", "/p1/animals/{}", "/limits", "/extensions", "/extensions/apid-days", "/"]
)
def test_an_unknown_query_parameter_is_400_everywhere(client, path):
    one = create(client)
    target = path.format(one["id"])
    assert client.get(target).code == 200
    answer = client.get(f"{target}?nope=1")
    assert (answer.code, b"'nope'" in answer.body) == (400, True)


def test_an_unknown_query_parameter_changes_nothing(client):
    one = create(client)
    body = {"animal": {"name": "Max", "species": "dog"}}
    assert client.post("/animals?nope=1", json=body).code == 400
    assert client.put(f"/animals/{one['id']}?nope=1", json=body).code == 400
    assert client.post(f"/animals/{one['id']}/action?nope=1", json={"adopt": {"by": "Ann"}}).code == 400
    assert client.delete(f"/animals/{one['id']}?nope=1").code == 400
    assert [(a["name"], a["status"]) for a in client.get("/animals/detail").json["animals"]] == [("Rex", "available")]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/animals?limit=-1", "limit"),
        ("/animals?limit=x", "limit"),
        ("/animals?marker=nobody", "nobody"),
        ("/animals?sort_key=secret", "sort_key"),
        ("/animals?sort_dir=sideways", "sort_dir"),
        ("/animals?colour=red", "colour"),
        ("/animals?species=%00", "species"),
        ("/animals?marker=%00", "start after"),
    ],
)
def test_a_query_that_means_nothing_is_400_and_says_what(client, target, says):
    answer = client.get(target)
    assert answer.code == 400
    assert says in answer.fault["message"]


@pytest.mark.parametrize(
    "animal",
    [
        {},
        {"name": "x"},
        {"name": "", "species": "dog"},
        {"name": " x", "species": "dog"},
        {"name": "x\n", "species": "dog"},
        {"name": "x\0y", "species": "dog"},
        {"name": "\ud800", "species": "dog"},
        {"name": "x", "species": "d\0g"},
        {"name": "x" * 256, "species": "dog"},
        {"name": 1, "species": "dog"},
        {"name": "x", "species": "dog", "tags": ["a"]},
        {"name": "x", "species": "dog", "id": "mine"},
    ],
)
def test_a_body_that_does_not_fit_is_400_and_nothing_is_kept(client, animal):
    assert client.post("/animals", json={"animal": animal}).code == 400
    assert client.get("/animals").json["animals"] == []


def test_two_of_one_name_are_a_conflict(client, database):
    rex, tom = create(client), create(client, "Tom")
    assert client.post("/animals", json={"animal": {"name": "Rex", "species": "cat"}}).code == 409
    assert client.put(f"/animals/{tom['id']}", json={"animal": {"name": "Rex", "species": "dog"}}).code == 409
    create(make_client(database, "p2"), "Rex")  # a name is the project's own
    assert client.get(f"/animals/{rex['id']}").json["animal"]["species"] == "dog"


def test_of_many_who_create_one_name_at_once_one_succeeds(database):
    def post(_: int) -> int:
        return make_client(database).post("/animals", json={"animal": {"name": "Rex", "species": "dog"}}).code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(post, range(8)))
    assert codes == [201] + [409] * 7


def test_a_put_replaces_and_if_match_guards_it(client):
    answer = client.post("/animals", json={"animal": {"name": "Rex", "species": "dog"}})
    target, etag = f"/animals/{answer.json['animal']['id']}", answer.headers["ETag"]
    body = {"animal": {"name": "Max", "species": "dog"}}
    changed = client.put(target, json=body, headers={"If-Match": etag})
    assert (changed.code, changed.json["animal"]["name"]) == (200, "Max")
    assert changed.headers["ETag"] != etag
    assert client.put(target, json=body, headers={"If-Match": etag}).code == 412
    assert client.put(target, json=body, headers={"If-Match": f"W/{changed.headers['ETag']}"}).code == 412
    assert client.put(target, json=body, headers={"If-Match": f'"x", {changed.headers["ETag"]}'}).code == 200
    assert client.delete(target, headers={"If-Match": etag}).code == 412
    assert client.delete(target, headers={"If-Match": "*"}).code == 204


def test_a_merge_patch_needs_if_match_and_changes_only_what_it_names(client):
    answer = client.post(
        "/animals", json={"animal": {"name": "Rex", "species": "dog", "tags": ["old"]}}, headers=LATEST
    )
    target, etag = f"/animals/{answer.json['animal']['id']}", answer.headers["ETag"]
    assert client.patch(target, json={"name": "Max"}).code == 428
    assert client.patch(target, json={"name": "Max"}, headers={"If-Match": '"no"'}).code == 412
    headers = {"If-Match": etag, "Content-Type": "application/merge-patch+json", **LATEST}
    changed = client.patch(target, json={"name": "Max"}, headers=headers)
    assert changed.code == 200, changed.body
    assert (changed.json["animal"]["name"], changed.json["animal"]["tags"]) == ("Max", ["old"])
    headers["If-Match"] = changed.headers["ETag"]
    assert client.patch(target, json={"tags": None}, headers=headers).json["animal"]["tags"] == []
    assert client.patch(target, json={"name": None}, headers={"If-Match": "*"}).code == 400
    assert client.patch(target, json={"tags": ["x"]}, headers={"If-Match": "*"}).code == 400  # before 1.1


def test_if_none_match_guards_a_change(client):
    one = create(client)
    path, body = f"/animals/{one['id']}", {"animal": {"name": "Max", "species": "dog"}}
    tag = client.get(path).headers["ETag"]
    for unwanted in ("*", tag, f'"other", W/{tag}'):
        assert client.put(path, json=body, headers={"If-None-Match": unwanted}).code == 412
        assert client.delete(path, headers={"If-None-Match": unwanted}).code == 412
    assert client.put(path, json=body, headers={"If-None-Match": '"other"'}).code == 200


@pytest.mark.parametrize("body", [b'[{"op": "replace", "path": "/name", "value": "Max"}]', b'{"name": "Max"}'])
def test_a_patch_of_another_format_is_415(client, body):
    one = create(client)
    headers = {"If-Match": "*", "Content-Type": "application/json-patch+json"}
    answer = client.patch(f"/animals/{one['id']}", body=body, headers=headers)
    assert (answer.code, answer.headers["Accept"]) == (415, "application/json")


def test_adopt_and_release_change_hands_once(client):
    target = f"/animals/{create(client)['id']}"
    adopt = {"adopt": {"by": "Ann"}}
    assert client.post(f"{target}/action", json={"release": None}).code == 409
    first = client.post(f"{target}/action", json=adopt)
    assert (first.code, first.body) == (202, b"")
    assert client.post(f"{target}/action", json=adopt).code == 409
    assert client.get(target).json["animal"]["adopted_by"] == "Ann"
    done = client.post(f"{target}/action", json={"release": {}}, headers=LATEST)
    assert (done.code, done.json["animal"]["status"]) == (200, "available")
    assert client.post(f"{target}/action", json={"eat": {}}).code == 400
    assert client.post(f"{target}/action", json={"adopt": {}}).code == 400


def test_each_microversion_has_its_change(client):
    body = {"animal": {"name": "Rex", "species": "dog", "tags": ["good"]}}
    assert client.post("/animals", json=body).code == 400
    for version, has_tags in (("1.0", False), ("1.1", True), ("1.2", True)):
        headers = {"OpenStack-API-Version": f"zoo {version}"}
        animal = create(client, f"n{version}", headers=headers)
        assert ("tags" in animal) is has_tags
    answer = client.get("/animals", headers={"OpenStack-API-Version": "zoo 1.3"})
    assert answer.code == 406
    assert (answer.fault["min_version"], answer.fault["max_version"]) == ("1.0", "1.2")


def test_a_quota_is_403_when_over_and_shown_in_limits(database):
    client = make_client(database, quota=2)
    create(client, "a")
    create(client, "b")
    answer = client.post("/animals", json={"animal": {"name": "c", "species": "dog"}})
    assert answer.code == 403
    assert "Quota" in answer.fault["message"]
    assert client.get("/limits").json["limits"]["absolute"] == {"maxTotalAnimals": 2, "totalAnimalsUsed": 2}


def test_the_extension_is_listed(client):
    assert client.get("/p1/extensions").json == client.get("/extensions").json
    assert client.get("/p1/extensions/apid-days").code == 200
    assert client.get("/other/extensions").code == 400
    listed = client.get("/extensions").json["extensions"]
    assert [extension["alias"] for extension in listed] == ["apid-days"]


def test_a_database_that_is_away_is_503_with_retry_after_and_comes_back(tmp_path, database, client, caplog):
    caplog.set_level("INFO", logger="apid.api.db.connection")
    create(client)
    file = tmp_path / "zoo.sqlite"
    with database.engine.connect() as blocker:
        blocker.exec_driver_sql("SELECT 1")
        blocker.rollback()
    database.dispose()
    for extra in ("-wal", "-shm"):
        (tmp_path / f"zoo.sqlite{extra}").unlink(missing_ok=True)
    file.rename(tmp_path / "away")
    file.mkdir()
    answer = client.get("/animals")
    assert answer.code == 503
    assert answer.headers["Retry-After"] == "5"
    assert str(tmp_path) not in answer.body.decode()
    assert [client.get("/animals").code for _ in range(5)] == [503] * 5
    file.rmdir()
    (tmp_path / "away").rename(file)
    assert len(client.get("/animals").json["animals"]) == 1
    assert client.get("/animals").code == 200
    away, again = [record.getMessage() for record in caplog.records]  # one incident, not a line for each request
    assert away.startswith("the database is not available: ")
    assert again.startswith("the database is available again, after ")


@pytest.mark.parametrize("octets", ["%00", "a%00b", "%0a", "%1b", "%7f", "%00.json"])
def test_a_control_character_in_a_path_or_query_is_an_answer(database, octets):
    """The server passes an escaped NUL on; no database may see it, for PostgreSQL's text has none."""
    one = create(make_client(database))
    for client in (make_client(database), make_client(database, admin=True), Client(FaultWrapper(API(database, -1)))):
        for path in (
            f"/animals/{octets}",
            f"/animals/{one['id']}{octets}",
            f"/{octets}",
            f"/animals{octets}",
            f"/{octets}/x",
        ):
            for method in ("GET", "DELETE"):
                assert client.request(method, path).code in {400, 404}, path
        assert client.post(f"/animals/{octets}/action", json={"adopt": {"by": "Ann"}}).code in {400, 404}
        assert client.put(f"/animals/{octets}", json={"animal": {"name": "a", "species": "dog"}}).code in {400, 404}
        assert client.get(f"/{octets}/animals").code in {200, 400, 404}
        for query in (f"marker={octets}", f"name={octets}", f"limit={octets}", f"{octets}=1"):
            assert client.get(f"/animals?{query}").code in {200, 400}, query
