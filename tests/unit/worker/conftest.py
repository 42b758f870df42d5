from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

PARTS = """
import sys

class Named:
    def __init__(self, name, app=None, conf=None, options=None):
        self.name, self.app, self.conf, self.options = name, app, conf, options or {}
    def __call__(self, environ, start_response):
        if self.app is None:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [self.name.encode()]
        return [self.name.encode() + b" ", *self.app(environ, start_response)]

class Routed(Named):
    def apid_routes(self):
        return [(("GET", "HEAD"), "/things", "things.index"), ("GET", "/things/{id}", "things.show")]

def app(global_conf, **options):
    return Named(options.pop("name", "app"), conf=global_conf, options=options)

def routed(global_conf):
    return Routed("routed")

class Unbound(Named):
    def __getattr__(self, name):
        raise RuntimeError("working outside of the context")

def unbound(global_conf):
    return Unbound("unbound")

def strict(global_conf, limit):
    return Named("strict")

def filter(global_conf, **options):
    return lambda application: Named(options.get("name", "filter"), application, global_conf, options)

def filter_app(application, global_conf, **options):
    return Named("filter_app", application)

def composite(loader, global_conf, **options):
    return Named("composite", loader.get_app(options["default"], global_conf=global_conf))

def raising(global_conf):
    raise ValueError("the database is away")

def reads_a_file(global_conf):
    open("/does/not/exist")

def leaving(global_conf):
    sys.exit(3)

def nothing(global_conf):
    return None

def bad_filter(global_conf):
    def wrap(application):
        raise ValueError("cannot wrap")
    return wrap

def parses(global_conf):
    import configparser
    configparser.ConfigParser().read_string("nonsense")

not_callable = 7
"""


@pytest.fixture
def ini(tmp_path, monkeypatch):
    (tmp_path / "parts_for_test.py").write_text(PARTS)
    (tmp_path / "parsing_for_test.py").write_text("import configparser\nconfigparser.ConfigParser().read_string('x')\n")
    (tmp_path / "broken_for_test.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda text, name="api.ini": write(tmp_path / name, text)
    for module in ["parts_for_test", "parsing_for_test", "broken_for_test"]:
        sys.modules.pop(module, None)


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text.replace("parts.", "call:parts_for_test:")), encoding="utf-8")
    return str(path)
