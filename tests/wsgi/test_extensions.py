"""Extensions: contract, loading, what they add and go around, and the ones that are broken."""

from __future__ import annotations

import sys
from typing import ClassVar

import pytest

from apid.wsgi import faults
from apid.wsgi.apirouter import APIRouter
from apid.wsgi.controller import action, extends, response
from apid.wsgi.extensions import (
    ControllerExtension,
    ExtensionDescriptor,
    ExtensionError,
    ExtensionManager,
    ResourceExtension,
)
from apid.wsgi.response import ResponseObject
from apid.wsgi.testing import Client


class Animals:
    def index(self, req):
        return {"animals": ["cat"]}

    def show(self, req, id):
        if id == "none":
            raise faults.NotFound
        return {"animal": {"id": id}}

    @action("feed")
    @response(202)
    def feed(self, req, id, body):
        return {"fed": id}


class Toys:
    def index(self, req, **variables):
        return {"toys": sorted(variables.items())}

    def show(self, req, id):
        return {"toy": id}

    def count(self, req):
        return {"count": 0}

    def squeeze(self, req, id, body=None):
        return {"squeezed": id}


class ToysExtension(ExtensionDescriptor):
    """Toys for animals."""

    name, alias, updated = "Toys", "zoo-toys", "2026-11-01T00:00:00Z"

    def get_resources(self):
        return [
            ResourceExtension("toys", Toys(), collection_actions={"count": "GET"}, member_actions={"squeeze": "POST"}),
            ResourceExtension("bones", Toys(), parent={"member_name": "animal", "collection_name": "animals"}),
        ]


class Around:
    """Before, after, instead; and one action more."""

    @extends
    def show(self, req, id):
        if id == "early":
            yield {"animal": "from the extension"}
        result = yield
        result.obj["animal"]["age"] = 3
        result.headers["X-Around"] = "yes"

    @extends(action="feed")
    def around_feed(self, req, resp_obj, id, body):
        resp_obj.obj["noted"] = True

    @action("wash")
    @response(202)
    def wash(self, req, id, body):
        return {"washed": id}


class AgeExtension(ExtensionDescriptor):
    """The age of animals."""

    name, alias, updated = "Ages", "zoo-age", "2026-11-01T00:00:00Z"

    def get_controller_extensions(self):
        return [ControllerExtension(self, "animals", Around())]


class BrokenExtension(ExtensionDescriptor):
    """Raises while it starts."""

    name, alias, updated = "Broken", "zoo-broken", "2026-11-01T00:00:00Z"

    def __init__(self, manager):
        raise RuntimeError("no such luck")


class LaterBroken(ExtensionDescriptor):
    """Raises when its resources are asked for."""

    name, alias, updated = "Later", "zoo-later", "2026-11-01T00:00:00Z"

    def get_resources(self):
        raise RuntimeError("later")


class Undescribed(ExtensionDescriptor):
    name, alias, updated = "Silent", "zoo-silent", "2026-11-01T00:00:00Z"


Undescribed.__doc__ = None


class API(APIRouter):
    ROUTES: ClassVar = {
        "/animals": {"GET": (Animals, "index")},
        "/animals/{id}": {"GET": (Animals, "show")},
        "/animals/{id}/action": {"POST": (Animals, "action")},
    }


def served(*classes, **options):
    return Client(API(None, ExtensionManager(classes=classes, **options)))


def test_listing():
    client = served(ToysExtension, AgeExtension)
    document = client.get("/extensions").json
    assert [entry["alias"] for entry in document["extensions"]] == ["zoo-age", "zoo-toys"]
    assert client.get("/extensions/zoo-toys").json["extension"] == {
        "name": "Toys",
        "alias": "zoo-toys",
        "description": "Toys for animals.",
        "namespace": "",
        "updated": "2026-11-01T00:00:00Z",
        "links": [],
    }
    assert client.get("/extensions/nope").code == 404
    assert client.post("/extensions").code == 405


def test_resources():
    client = served(ToysExtension)
    assert client.get("/toys").json == {"toys": []}
    assert client.get("/toys/7").json == {"toy": "7"}
    assert client.get("/toys/count").json == {"count": 0}
    assert client.post("/toys/7/squeeze").json == {"squeezed": "7"}
    assert client.get("/animals/3/bones").json == {"toys": [["animal_id", "3"]]}
    assert client.delete("/toys/7").code == 405


def test_around_methods_and_actions():
    client = served(AgeExtension)
    answer = client.get("/animals/7")
    assert answer.json == {"animal": {"id": "7", "age": 3}}
    assert answer.headers["X-Around"] == "yes"
    assert client.get("/animals/early").json == {"animal": "from the extension"}
    assert client.get("/animals/none").code == 404
    assert client.get("/animals").json == {"animals": ["cat"]}
    fed = client.post("/animals/7/action", json={"feed": {}})
    assert (fed.code, fed.json) == (202, {"fed": "7", "noted": True})
    assert client.post("/animals/7/action", json={"wash": {}}).json == {"washed": "7"}


def test_after_hooks_run_in_reverse():
    def hook(number):
        class Hook:
            @extends
            def index(self, req, resp_obj):
                resp_obj.obj["animals"].append(number)

        return Hook()

    client = API(None, ExtensionManager())
    resource = client.map.matchlist[0].defaults["controller"]
    resource.extend(hook(1))
    resource.extend(hook(2))
    resource.controller.index = None
    assert Client(client).get("/animals").json == {"animals": ["cat", 2, 1]}


def test_a_hook_may_answer_instead():
    class Hook:
        @extends
        def index(self, req, resp_obj):
            return ResponseObject({"instead": True}, 203)

    router = API(None, ExtensionManager())
    router.map.matchlist[0].defaults["controller"].extend(Hook())
    answer = Client(router).get("/animals")
    assert (answer.code, answer.json) == (203, {"instead": True})


@pytest.mark.parametrize("broken", [BrokenExtension, LaterBroken, Undescribed])
def test_a_broken_one_is_reported_and_the_rest_is_served(broken, caplog):
    client = served(broken, ToysExtension)
    assert [entry["alias"] for entry in client.get("/extensions").json["extensions"]] == ["zoo-toys"]
    assert any("is left out" in record.getMessage() for record in caplog.records)


def test_two_of_one_alias_are_an_error():
    class Twin(ToysExtension):
        """The other one."""

    with pytest.raises(ExtensionError, match=r"alias 'zoo-toys'.*ToysExtension and .*Twin; deny one of them"):
        ExtensionManager(classes=[ToysExtension, Twin])


def test_a_required_one_that_is_broken_stops_the_start():
    with pytest.raises(ExtensionError, match=r"zoo-broken.*no such luck"):
        ExtensionManager(classes=[BrokenExtension], required=["zoo-broken"])


@pytest.mark.parametrize(
    ("options", "aliases"),
    [
        ({}, ["zoo-age", "zoo-toys"]),
        ({"allow": ["zoo-age"]}, ["zoo-age"]),
        ({"deny": ["zoo-age"]}, ["zoo-toys"]),
        ({"allow": ["zoo-age"], "deny": ["zoo-age"]}, []),
    ],
)
def test_allow_and_deny(options, aliases):
    assert sorted(ExtensionManager(classes=[ToysExtension, AgeExtension], **options).extensions) == aliases


def test_an_extension_of_a_method_that_is_not_there_is_left_out(caplog):
    class Nothing:
        @extends
        def destroy(self, req, resp_obj): ...

    class Bad(AgeExtension):
        """Goes around nothing."""

        alias = "zoo-bad"

        def get_controller_extensions(self):
            return [ControllerExtension(self, "animals", Nothing())]

    assert served(Bad).get("/extensions").json == {"extensions": []}
    assert "extends 'destroy', which Animals has not" in caplog.text


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with three entry points: one good, one whose module does not exist, one that raises at import."""
    (tmp_path / "zooext.py").write_text(
        "from apid.wsgi.extensions import ExtensionDescriptor\n"
        "class Good(ExtensionDescriptor):\n"
        "    'A good one.'\n"
        "    name, alias, updated = 'Good', 'zoo-good', '2026-11-01T00:00:00Z'\n"
    )
    (tmp_path / "zoobad.py").write_text("raise OSError('bad day')\n")
    info = tmp_path / "zooext-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zooext\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo.ext]\ngood = zooext:Good\ngone = nowhere:Gone\nbad = zoobad:Bad\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("zooext", "zoobad"):
        sys.modules.pop(name, None)


def test_loaded_by_entry_point(installed, caplog):
    class Zoo(API):
        extension_namespace = "zoo.ext"

    client = Client(Zoo.factory({}))
    assert [entry["alias"] for entry in client.get("/extensions").json["extensions"]] == ["zoo-good"]
    assert "extension gone is left out" in caplog.text
    assert "bad day" in caplog.text
    assert Client(Zoo.factory({}, extensions_deny="zoo-good, other")).get("/extensions").json == {"extensions": []}
    with pytest.raises(ValueError, match="unknown option 'nope'"):
        Zoo.factory({}, nope="1")
