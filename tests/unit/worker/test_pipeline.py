"""Pipelines load as Paste Deploy says, and tell what they are made of."""

from __future__ import annotations

import json

import pytest

from apid.conf.settings import Paste
from apid.errors import PipelineError
from apid.worker import pipeline


def load(path: str, name: str = "main"):
    return pipeline.load(Paste(path, name))


def body(application) -> str:
    return b"".join(application({"PATH_INFO": "/"}, lambda status, headers, exc_info=None: None)).decode()


def test_two_lines_are_enough(ini):
    assert body(load(ini("[app:main]\npaste.app_factory = parts_for_test:app\n"))) == "app"


def test_every_kind_of_section(ini):
    path = ini(
        """
        [composite:main]
        use = parts.composite
        default = api

        [pipeline:api]
        pipeline = one two api_app

        [filter:one]
        paste.filter_factory = parts_for_test:filter
        name = one

        [filter:two]
        paste.filter_app_factory = parts_for_test:filter_app

        [filter-app:api_app]
        use = one
        name = three
        next = inner

        [app:inner]
        use = base
        filter-with = last
        name = inner

        [app:base]
        use = parts.app

        [filter:last]
        use = parts.filter
        name = last
        """
    )
    assert body(load(path)) == "composite one filter_app three last inner"


def test_the_other_name_of_composite_and_app(ini):
    path = ini("[composit:main]\nuse = parts.composite\ndefault = x\n[application:x]\nuse = parts.app\n")
    assert body(load(path)) == "composite app"


def test_set_get_here_and_file(ini, tmp_path):
    path = ini(
        """
        [DEFAULT]
        debug = false
        [app:main]
        use = parts.app
        set debug = true
        get level = region
        place = %(here)s/x
        set region = north
        """
    )
    application = load(path)
    assert application.conf["debug"] == "true"
    assert application.conf["here"] == str(tmp_path)
    assert application.conf["__file__"] == path
    assert application.options == {"level": "north", "place": f"{tmp_path}/x"}


def test_another_file_is_relative_to_the_first(ini, tmp_path):
    ini("[app:other]\nuse = parts.app\nname = from there\nwhere = %(here)s\n", "sub/other.ini")
    application = load(ini("[app:main]\nuse = config:sub/other.ini#other\n"))
    assert body(application) == "from there"
    assert application.options["where"] == f"{tmp_path}/sub"


def test_a_percent_sign_in_the_path_does_no_harm(ini, tmp_path):
    ini("[app:main]\nuse = parts.app\nwhere = %(here)s\n", "100%25 (s/other.ini")
    application = load(ini("[app:main]\nuse = config:other.ini\n", "100%25 (s/api.ini"))
    assert application.options["where"] == f"{tmp_path}/100%25 (s"
    assert application.conf["here"] == f"{tmp_path}/100%25 (s"


def test_the_file_is_utf8_whatever_the_locale(ini, monkeypatch):
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    assert body(load(ini("[app:main]\nuse = parts.app\nname = Zoë\n"))) == "Zoë"


def test_app_name_chooses_the_section(ini):
    path = ini("[app:main]\nuse = parts.app\n[app:main-dev]\nuse = parts.app\nname = dev\n")
    assert body(load(path, "main-dev")) == "dev"


def test_an_option_that_paste_drops_is_warned_about(ini, caplog):
    path = ini("[DEFAULT]\nlimit = 1\n[app:main]\nuse = parts.app\nlimit = 2\n")
    assert load(path).options == {}
    (message,) = caplog.messages
    assert message.startswith(
        f"{path}:3: [app:main]: the option limit is not passed on, for [DEFAULT] has one of that name too"
    )


@pytest.fixture
def paste_installed(tmp_path):
    info = tmp_path / "site" / "Paste-3.10.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Paste\nVersion: 3.10\n")
    (info / "entry_points.txt").write_text("[paste.composite_factory]\nurlmap = parts_for_test:composite\n")
    return tmp_path / "site"


PASTE_URLMAP = "[composite:main]\nuse = egg:Paste#urlmap\ndefault = x\n[app:x]\nuse = parts.app\n"


def test_the_urlmap_of_paste_works_where_it_is_installed(ini, paste_installed, monkeypatch):
    monkeypatch.syspath_prepend(paste_installed)
    assert body(load(ini(PASTE_URLMAP))) == "composite app"


def test_describe_shows_the_parts_in_the_order_of_a_request(ini):
    path = ini(
        """
        [composite:main]
        use = parts.composite
        default = api
        [pipeline:api]
        pipeline = one two things
        [filter:one]
        use = parts.filter
        [filter:two]
        use = parts.filter
        [app:things]
        use = parts.routed
        """
    )
    paste = Paste(path, "main")
    report = pipeline.describe(paste, pipeline.load(paste))
    assert report == json.loads(json.dumps(report))
    filter_ = {"uses": "call:parts_for_test:filter", "parts": []}
    assert report == {
        "file": path,
        "app_name": "main",
        "tree": {
            "section": "composite:main",
            "uses": "call:parts_for_test:composite",
            "parts": [
                {
                    "section": "pipeline:api",
                    "uses": "one two things",
                    "served_at": "default",
                    "parts": [
                        {"section": "filter:one", **filter_},
                        {"section": "filter:two", **filter_},
                        {
                            "section": "app:things",
                            "uses": "call:parts_for_test:routed",
                            "parts": [],
                            "routes": [["GET HEAD", "/things", "things.index"], ["GET", "/things/{id}", "things.show"]],
                        },
                    ],
                }
            ],
        },
    }


def test_an_application_that_refuses_to_be_asked_is_served(ini):
    paste = Paste(ini("[app:main]\npaste.app_factory = parts_for_test:unbound\n"), "main")
    tree = pipeline.describe(paste, pipeline.load(paste))["tree"]
    assert (tree["section"], "routes" in tree, pipeline.warnings(paste)) == ("app:main", False, [])


def test_describe_of_what_was_not_loaded(ini):
    with pytest.raises(PipelineError, match="has not been loaded"):
        pipeline.describe(Paste("/nowhere.ini", "main"), None)
