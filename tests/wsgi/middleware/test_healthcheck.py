"""The healthcheck: oslo.middleware's answers, and 503 as soon as a drain is asked for."""

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import healthcheck, proxyheaders
from tests.wsgi.middleware.wire import Seen, ask

PLAIN, HTML, JSON = "text/plain; charset=UTF-8", "text/html; charset=UTF-8", "application/json"


def app(**conf):
    made = healthcheck.app({}, **conf)
    return lambda _: made


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("", PLAIN, b"OK"),
        ("*/*", PLAIN, b"OK"),
        ("application/json", JSON, b'{\n    "detailed": false,\n    "reasons": [\n        "OK"\n    ]\n}'),
        ("text/html, application/json;q=0.5", HTML, None),
        ("image/png", PLAIN, b"OK"),
        (";;;", PLAIN, b"OK"),
    ],
)
def test_forms(accept, kind, body):
    answer = ask(app(), None, accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["Cache-Control"] == "no-store"
    assert body is None or answer.body == body
    assert b"OK" in answer.body


def test_head_is_204():
    assert ask(app(), None, method="HEAD").status == 204


def test_503_from_the_moment_a_drain_is_asked():
    draining = []
    extra = {"apid.draining": lambda: bool(draining)}
    check = app()
    assert ask(check, None, **extra).status == 200
    draining.append(True)
    answer = ask(check, None, **extra)
    assert (answer.status, answer.body) == (503, b"DRAINING")
    assert ask(check, None, method="HEAD", **extra).status == 503
    assert ask(check, None, accept="application/json", **extra).json == {"detailed": False, "reasons": ["DRAINING"]}


def test_disable_by_file(tmp_path):
    file = tmp_path / "off"
    check = app(backends="disable_by_file", disable_by_file_path=str(file))
    assert ask(check, None).status == 200
    file.touch()
    answer = ask(check, None)
    assert (answer.status, answer.body) == (503, b"DISABLED BY FILE")
    assert str(tmp_path).encode() not in answer.body
    file.unlink()
    assert ask(check, None).status == 200
    file.touch()
    assert ask(app(disable_by_file_path=str(file)), None).status == 200  # the backend is not asked for


def test_files_by_port_and_enabling_files(tmp_path):
    file = tmp_path / "x"
    by_port = app(backends="disable_by_files_ports", disable_by_file_paths=f"80:{file}, 81:/nonexistent")
    enabling = app(backends="enable_by_files", enable_by_file_paths=str(file))
    assert [ask(by_port, None).status, ask(enabling, None).status] == [200, 503]
    file.touch()
    assert [ask(by_port, None, SERVER_PORT="80").status, ask(enabling, None).status] == [503, 200]
    assert ask(by_port, None, SERVER_PORT="81").status == 200


def test_other_methods_are_405():
    answer = ask(app(), None, method="POST", body=b"x")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_the_filter_answers_its_path_only():
    wrap = healthcheck.factory({}, path="/hc")
    assert ask(wrap, Seen(), "/hc").body == b"OK"
    assert ask(wrap, Seen(), "/hc/").body == b"ok"
    assert ask(wrap, Seen(), "/").body == b"ok"


def test_who_gets_an_answer():
    ranges = {"allowed_source_ranges": "10.0.0.0/8"}
    assert ask(app(**ranges), None, REMOTE_ADDR="10.0.0.1").status == 200
    assert ask(app(**ranges), None, REMOTE_ADDR="11.0.0.1").status == 404
    assert ask(healthcheck.factory({}, **ranges), Seen(), "/healthcheck", REMOTE_ADDR="11.0.0.1").body == b"ok"
    proxied = {"ignore_proxied_requests": "true"}
    assert ask(app(**proxied), None, x_forwarded_for="1.2.3.4").status == 404
    assert ask(app(**proxied), None).status == 200
    assert ask(app(allowed_source_ranges="0.0.0.0/0, ::/0"), None, REMOTE_ADDR="unknown").status == 404


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8", "127.0.0.0/8"])
@pytest.mark.parametrize("field", ["x_forwarded_for", "x_forwarded_port", "x_real_ip", "forwarded"])
def test_a_field_that_is_removed_has_come_through_a_proxy(trusted, field):
    check = healthcheck.app({}, ignore_proxied_requests="true")
    made = proxyheaders.factory({}, trusted_proxies=trusted)(check)
    assert ask(lambda _: made, None, REMOTE_ADDR="127.0.0.1", **{field: "192.0.2.7"}).status == 404
    assert ask(lambda _: made, None, REMOTE_ADDR="127.0.0.1").status == 200


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"detailed": "true"}, "stacks and paths are not for clients"),
        ({"backends": "disable_by_fil"}, "there are disable_by_file, disable_by_files_ports, enable_by_files"),
        ({"disable_by_file_paths": "/x"}, "<port>:<path>"),
        ({"path": "/x"}, "is not known"),
    ],
)
def test_wrong_options(conf, message):
    with pytest.raises(OptionError, match=message):
        healthcheck.app({}, **conf)
    assert healthcheck.app({}, detailed="False")


def test_a_backend_that_nobody_brings_is_named():
    with pytest.raises(OptionError, match=r"nonsense is not; there are disable_by_file, .*, database"):
        healthcheck.app({}, backends="nonsense")
