"""Versions, pages, languages, api-sig's faults: the documents that clients read."""

from __future__ import annotations

import struct
from typing import ClassVar
from wsgiref.util import FileWrapper

import pytest

from apid.wsgi import faults, mediatypes
from apid.wsgi.catalogue import Catalogue, preferred
from apid.wsgi.middleware import faultwrap
from apid.wsgi.paging import Page
from apid.wsgi.request import Request
from apid.wsgi.router import Router
from apid.wsgi.testing import Client
from apid.wsgi.versions import Version, VersionsApp


class TestVersions:
    ALL = (
        Version("v1", "SUPPORTED", updated="2020-01-01T00:00:00Z"),
        Version("v2.1", min_version="2.1", max_version="2.90", path="/v2.1", described_by="https://docs.example.org/"),
    )

    def test_list(self):
        answer = Client(VersionsApp(self.ALL)).get("/")
        assert answer.code == 300
        assert [(entry["id"], entry["status"]) for entry in answer.json["versions"]] == [
            ("v1", "SUPPORTED"),
            ("v2.1", "CURRENT"),
        ]
        entry = answer.json["versions"][1]
        assert (entry["min_version"], entry["max_version"], entry["version"]) == ("2.1", "2.90", "2.90")
        assert entry["links"] == [{"rel": "self", "href": "http://localhost/v2.1/"}]

    def test_novas_200_and_glances_versions_path(self):
        assert Client(VersionsApp(self.ALL, 200)).get("/").code == 200
        assert Client(VersionsApp(self.ALL)).get("/versions").code == 200

    def test_public_endpoint_and_mount(self):
        client = Client(
            VersionsApp(self.ALL, public_endpoint="https://api.example.org/zoo/"), environ={"SCRIPT_NAME": "/x"}
        )
        assert client.get("/").json["versions"][0]["links"][0]["href"] == "https://api.example.org/zoo/x/v1/"

    def test_choices_keep_the_rest_of_the_path(self):
        answer = Client(VersionsApp(self.ALL)).post("/v7/a%20b/c")
        assert answer.code == 300
        assert answer.json["choices"][1]["links"][0]["href"] == "http://localhost/v2.1/a%20b/c"
        assert answer.json["choices"][1]["media-types"] == [
            {"base": "application/json", "type": "application/vnd.openstack.apid+json;version=2"}
        ]

    def test_document(self):
        document = self.ALL[1].document("http://h")["version"]
        assert [link["rel"] for link in document["links"]] == ["self", "collection", "describedby"]

    @pytest.mark.parametrize("path", ["/favicon.ico", "/vv1", "/v1000", "/v1x/y"])
    def test_anything_else_is_404(self, path):
        assert Client(VersionsApp(self.ALL)).get(path).code == 404

    def test_methods(self):
        client = Client(VersionsApp(self.ALL))
        assert (client.head("/").code, client.head("/").body) == (300, b"")
        assert client.options("/").headers["Allow"] == "GET, HEAD, OPTIONS"
        assert client.delete("/").code == 405

    def test_mistakes(self):
        with pytest.raises(ValueError, match="exactly one version must be CURRENT; these are: v1, v2"):
            VersionsApp([Version("v1"), Version("v2")])
        with pytest.raises(ValueError, match="version id"):
            Version("1")
        with pytest.raises(ValueError, match="status"):
            Version("v1", "BETA")
        with pytest.raises(ValueError, match="200 or 300"):
            VersionsApp([Version("v1")], 404)

    @pytest.mark.parametrize("host", ['a"b', "a\r\nb", "\xff", "<script>"])
    def test_a_strange_host_stays_in_its_string(self, host):
        answer = Client(VersionsApp(self.ALL), validate=False).get("/", headers={"Host": host})
        assert answer.json["versions"][0]["links"][0]["href"] == f"http://{host}/v1/"


class Things:
    def index(self, req):
        page = Page.of(req, max_limit=3, sort_keys=("name",))
        return page.document(
            req, "things", page.cut([{"id": str(number)} for number in range(7)], lambda item: item["id"]), str_id
        )


def str_id(item):
    return item["id"]


class ThingsAPI(Router):
    ROUTES: ClassVar = {"/things": {"GET": (Things, "index")}}


class TestPaging:
    client = Client(ThingsAPI(), environ={"SCRIPT_NAME": "/v1"})

    def test_walk(self):
        target, seen = "/things?sort_key=name&limit=3", []
        while target:
            document = self.client.get(target).json
            seen += [item["id"] for item in document["things"]]
            following = document.get("things_links")
            target = following[0]["href"].removeprefix("http://localhost/v1") if following else None
            assert not following or "sort_key=name" in following[0]["href"]
        assert seen == [str(number) for number in range(7)]

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 3),
            ("limit=0", 3),
            ("limit=2", 2),
            ("limit=99", 3),
            (f"limit={2**63 - 1}", 3),
            ("marker=5", 1),
            ("offset=6", 1),
            ("limit=1&limit=2", 2),
        ],
    )
    def test_counts(self, query, count):
        assert len(self.client.get(f"/things?{query}").json["things"]) == count

    @pytest.mark.parametrize(
        "query",
        [
            "limit=-1",
            "limit=x",
            "limit=1.0",
            "limit=%D9%A3",
            "limit=" + "9" * 30,
            f"limit={2**63}",
            "offset=-1",
            "marker=nope",
            "sort_key=size",
            "sort_key=name&sort_dir=up",
            "sort_dir=asc&sort_dir=asc",
        ],
    )
    def test_mistakes(self, query):
        assert self.client.get(f"/things?{query}").code == 400

    def test_a_page_that_is_not_full_is_the_last_one(self):
        assert "things_links" in self.client.get("/things?limit=3").json
        assert "things_links" not in self.client.get("/things?marker=5").json
        assert "things_links" not in self.client.get("/things?marker=6").json

    def test_sort(self):
        page = Page.of(Request({"QUERY_STRING": "sort_key=a&sort_dir=desc&sort_key=b"}), sort_keys=("a", "b"))
        assert page.sort == (("a", "desc"), ("b", "asc"))


def catalogue_file(directory, language, texts):
    """Write a .mo file: what msgfmt would make of these texts."""
    folder = directory / language / "LC_MESSAGES"
    folder.mkdir(parents=True)
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **texts}.items())
    keys, values = b"", b""
    places = []
    for key, value in pairs:
        places.append((len(key.encode()), len(keys), len(value.encode()), len(values)))
        keys += key.encode() + b"\0"
        values += value.encode() + b"\0"
    start = 28 + 16 * len(pairs)
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    first = b"".join(struct.pack("<2I", size, start + place) for size, place, _, _ in places)
    second = b"".join(struct.pack("<2I", size, start + len(keys) + place) for _, _, size, place in places)
    (folder / "apid.mo").write_bytes(head + first + second + keys + values)


class TestLanguages:
    @pytest.fixture
    def client(self, tmp_path):
        catalogue_file(tmp_path, "de", {"The resource could not be found.": "Das gibt es nicht."})
        catalogue_file(tmp_path, "pt_BR", {"The resource could not be found.": "Recurso não encontrado."})
        wrap = faultwrap.factory({}, locale_dir=str(tmp_path))
        return Client(wrap(ThingsAPI()))

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("de", "Das gibt es nicht."),
            ("de-CH;q=0.8, fr", "Das gibt es nicht."),
            ("pt-BR", "Recurso não encontrado."),
            ("en, de", "The resource could not be found."),
            ("fr", "The resource could not be found."),
            ("*", "The resource could not be found."),
            (";;;,,,q=1", "The resource could not be found."),
            ("../../etc/passwd", "The resource could not be found."),
            ("de," * 500, "The resource could not be found."),
        ],
    )
    def test_by_accept_language(self, client, header, message):
        answer = client.get("/nope", headers={"Accept-Language": header})
        assert (answer.code, answer.fault["message"]) == (404, message)
        assert ("Content-Language" in answer.headers) == (not message.startswith("The"))

    def test_order(self):
        assert preferred("a;q=0.1, b, c;q=0.5, d;q=0, x y;q=1") == ("b", "c", "a")

    def test_oslo_messages_translate_themselves(self):
        class Message(str):
            def translation(self, locale):
                return "übersetzt" if locale == "de" else str(self)

        assert Catalogue().translated(Message("text"), "fr, de") == ("übersetzt", "de")
        assert Catalogue().translated(Message("text"), "fr") == ("text", "")


class Failing:
    def index(self, req):
        raise faults.Forbidden("No more than 10 animals.", error="quota.exceeded")


class FailingAPI(Router):
    ROUTES: ClassVar = {"/": {"GET": (Failing, "index")}}


def test_the_api_sig_form():
    wrap = faultwrap.factory({}, format="api-sig", service_type="zoo", help_url="https://docs.example.org/errors")
    answer = Client(wrap(FailingAPI())).get("/")
    assert answer.code == 403
    assert answer.json == {
        "errors": [
            {
                "request_id": answer.headers["X-Openstack-Request-Id"],
                "code": "zoo.quota.exceeded",
                "status": 403,
                "title": "Forbidden",
                "detail": "No more than 10 animals.",
                "links": [{"rel": "help", "href": "https://docs.example.org/errors"}],
            }
        ]
    }


def test_the_fallback_name_is_an_option():
    wrap = faultwrap.factory({}, fallback="zooFault")
    answer = (
        Client(wrap(FailingAPI())).get("/", headers={"Content-Length": "5"})
        if False
        else Client(wrap(raising)).get("/")
    )
    assert list(answer.json) == ["zooFault"]


def raising(environ, start_response):
    raise RuntimeError("gone")


def late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise RuntimeError("after start_response")
    yield b""


@pytest.mark.parametrize("application", [raising, late])
def test_faultwrap_answers_for_lazy_applications_too(application):
    answer = Client(faultwrap.FaultWrapper(application), validate=False).get("/")
    assert (answer.code, answer.fault["code"]) == (500, 500)


def test_faultwrap_logs_bugs_and_not_answers(caplog):
    def refusing(environ, start_response):
        raise faults.Forbidden("as intended")

    assert Client(faultwrap.FaultWrapper(refusing)).get("/").fault["message"] == "as intended"
    assert caplog.records == []
    Client(faultwrap.FaultWrapper(raising)).get("/")
    assert len(caplog.records) == 1


def test_faultwrap_closes_what_it_wraps():
    closed = []

    class Body:
        def __iter__(self):
            return iter([b"a", b"b"])

        def close(self):
            closed.append(True)

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    assert Client(faultwrap.FaultWrapper(application)).get("/").body == b"ab"
    assert closed == [True]


def test_faultwrap_leaves_the_servers_own_file_wrapper_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"data")

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(tmp_path / "file", "rb"))

    environ = {"wsgi.file_wrapper": FileWrapper, "REQUEST_METHOD": "GET"}
    body = faultwrap.FaultWrapper(application)(environ, lambda status, headers, exc_info=None: None)
    assert type(body) is FileWrapper
    body.close()


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/xml", "application/xml"),
        ("application/*, application/xml", "application/xml"),
        ("application/json;q=0.1, application/xml;q=0.2", "application/xml"),
        ("application/xml;q=0", "application/json"),
        ("application/xml;q=x", "application/json"),
        (",;,", "application/json"),
        ("a" * 5000, "application/json"),
    ],
)
def test_accept(header, chosen):
    environ = {"HTTP_ACCEPT": header, "PATH_INFO": "/a"}
    assert mediatypes.of(environ, ("application/json", "application/xml")) == chosen
    assert environ["nova.best_content_type"] == chosen


def test_the_suffix_goes_before_accept():
    environ = {"HTTP_ACCEPT": "application/json", "PATH_INFO": "/a.b/c.xml"}
    assert mediatypes.of(environ, ("application/json", "application/xml")) == "application/xml"
