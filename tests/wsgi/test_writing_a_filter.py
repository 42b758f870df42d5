"""docs/WRITING_A_FILTER.md: its example runs as printed, and its reference names every option of every filter."""

import importlib
import importlib.metadata
import pathlib
import re
import sys
from wsgiref.validate import validator

import pytest
from paste.deploy import loadapp

from apid.wsgi.factory import OptionError, declared
from tests.wsgi.middleware.wire import Seen, ask

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "WRITING_A_FILTER.md").read_text()


def block(kind, number=0):
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[number]


@pytest.fixture
def example(tmp_path, monkeypatch):
    (tmp_path / "readonly.py").write_text(block("python"))
    ini = tmp_path / "api-paste.ini"
    ini.write_text(block("ini").replace("/run/my-api/read-only", str(tmp_path / "read-only")))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "readonly", raising=False)
    yield ini
    sys.modules.pop("readonly", None)


def test_the_example_in_its_pipeline(example, tmp_path):
    app = loadapp(f"config:{example}")
    assert ask(lambda _: app, None).status == 200
    assert ask(lambda _: app, None, method="POST", body=b"x").status == 405  # it reached the app
    (tmp_path / "read-only").touch()
    assert ask(lambda _: app, None).status == 200
    refused = ask(lambda _: app, None, method="POST", body=b"x")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "300")
    fault = refused.json["serviceUnavailable"]
    assert fault["message"] == "Only reading is possible now."
    assert fault["request_id"] == refused.headers["X-Openstack-Request-Id"]


def test_the_error_that_the_text_shows(example):
    example.write_text(example.read_text().replace("5m", "soon"))
    with pytest.raises(OptionError) as caught:
        loadapp(f"config:{example}")
    assert str(caught.value) in TEXT


def test_the_testing_advice(example, tmp_path):
    readonly = importlib.import_module("readonly")
    options = readonly.Options(file=str(tmp_path / "read-only"))
    names = {"ReadOnly": readonly.ReadOnly, "app": Seen(), "options": options}
    exec(block("python", 1), names)
    checked = names["checked"]
    assert ask(lambda _: checked, None).body == b"ok"
    assert validator  # what the advice imports


def filters():
    for group in ("paste.filter_factory", "paste.app_factory"):
        for entry in importlib.metadata.entry_points(group=group):
            if entry.dist.name == "apid" and entry.value.startswith("apid.wsgi."):
                yield group, entry


@pytest.mark.parametrize(("group", "entry"), list(filters()), ids=lambda value: getattr(value, "name", ""))
def test_every_filter_and_option_is_described(group, entry):
    sections = {}
    for title, body in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE):
        for name in re.sub(r"\(.*\)", "", title).split(","):
            sections[name.strip()] = body
    assert entry.name in sections
    options = getattr(entry.load(), "options", None)
    if options is not None and entry.name != "faultwrap":
        missing = [
            option.name
            for option in declared(options)
            if not re.search(rf"`{re.escape(option.name)}", sections[entry.name])
        ]
        assert not missing
