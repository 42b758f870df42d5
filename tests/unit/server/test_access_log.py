"""The access log: fields, escapes, buffering, reopening, several writers."""

import json
import os
import types

import pytest

from apid.conf.settings import Http
from apid.errors import ConfigError
from apid.server import access_log


@pytest.fixture
def exchange():
    environ = {
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "5",
        "RAW_PATH_INFO": "/a",
        "QUERY_STRING": "b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_USER_AGENT": 'evil"\r\n',
        "HTTP_X_FORWARDED_FOR": "10.0.0.1, 10.0.0.2",
        "HTTP_X_PROJECT_ID": "p1",
        "apid.request_id": "req-1",
    }
    request = types.SimpleNamespace(line=b'GET /a?b"\\ HTTP/1.1', method="GET")
    return types.SimpleNamespace(
        environ=environ,
        request=request,
        listener="main",
        code=200,
        sent=120,
        received=80,
        wall_us=1500,
        request_id="req-1",
        outcome="complete",
    )


@pytest.fixture
def log(tmp_path):
    due = []
    one = access_log.AccessLog(
        Http(access_log=str(tmp_path / "a.log"), access_log_format="%(status_code)s"), lambda _, call: due.append(call)
    )
    one.due = due
    yield one
    one.close()


def test_every_field_can_be_formatted(exchange):
    for name in access_log.FIELDS:
        assert "\n" not in access_log.formatter(f"%({name})s")(exchange)


def test_the_formats_of_nova_and_eventlet(exchange):
    nova = '%(client_ip)s "%(request_line)s" status: %(status_code)s len: %(body_length)s time: %(wall_seconds).7f'
    assert (
        access_log.formatter(nova)(exchange)
        == '192.0.2.1 "GET /a?b\\x22\\x5c HTTP/1.1" status: 200 len: 120 time: 0.0015000'
    )
    assert (
        access_log.formatter("100%% %(user)s %(project)s %(forwarded_ip)s")(exchange)
        == "100% - p1 10.0.0.1,10.0.0.2,192.0.2.1"
    )
    assert access_log.formatter("%(user_agent)s")(exchange) == "evil\\x22\\x0d\\x0a"


def test_json(exchange):
    told = json.loads(access_log.formatter("json")(exchange))
    assert (told["path"], told["status_code"], told["bytes_in"], told["request_id"]) == ("/a", 200, 80, "req-1")


def test_an_unknown_field_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match=r"access_log_format: unknown field '%\(nope\)s'"):
        access_log.AccessLog(Http(access_log="-", access_log_format="%(nope)s"), lambda *_: None)


def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=f"access_log: {tmp_path} cannot be opened by .*: Is a directory"):
        access_log.AccessLog(Http(access_log=str(tmp_path)), lambda *_: None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("loop", "Too many levels of symbolic links"), ("file/log", "Not a directory"), ("no/log", "No such file")],
)
def test_a_trial_refuses_what_a_start_refuses(tmp_path, name, reason):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    settings = Http(access_log=str(tmp_path / name))
    for open_it in (access_log.check, lambda http: access_log.AccessLog(http, lambda *_: None)):
        with pytest.raises(ConfigError, match=f"{tmp_path}/{name} cannot be opened by .*: {reason}"):
            open_it(settings)


def test_a_trial_leaves_nothing_behind(tmp_path):
    (tmp_path / "link").symlink_to("target")
    for name in ("link", "new"):
        access_log.check(Http(access_log=str(tmp_path / name)))
    assert [each.name for each in tmp_path.iterdir()] == ["link"]


def test_lines_wait_for_the_clock_or_the_buffer(log, exchange, tmp_path):
    log.request(exchange)
    assert (tmp_path / "a.log").read_text() == ""
    assert len(log.due) == 1
    log.due.pop()()
    assert (tmp_path / "a.log").read_text() == "200\n"
    for _ in range(access_log.BUFFER):
        log.request(exchange)
    assert (tmp_path / "a.log").stat().st_size > access_log.BUFFER / 2


def test_reopen_leaves_the_old_file_whole_and_writes_to_the_new(log, exchange, tmp_path):
    log.request(exchange)
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    log.reopen()
    log.request(exchange)
    log.flush()
    assert (tmp_path / "a.log.1").read_text() == "200\n"
    assert (tmp_path / "a.log").read_text() == "200\n"


def test_several_writers_split_no_line(tmp_path):
    path = tmp_path / "shared.log"
    logs = [access_log.AccessLog(Http(access_log=str(path)), lambda *_: None) for _ in range(4)]
    pids = []
    for number, one in enumerate(logs):
        pid = os.fork()
        if pid == 0:
            for _ in range(5000):
                one.line(str(number) * 200)
            one.flush()
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    lines = path.read_text().splitlines()
    assert len(lines) == 20000
    assert set(lines) == {str(number) * 200 for number in range(4)}
    for one in logs:
        one.close()


def test_what_the_application_puts_into_its_environ_stays_on_one_line(exchange):
    exchange.environ["HTTP_X_USER_ID"] = "a\u2028b\udcff\x85\n"
    assert access_log.formatter("%(user)s")(exchange) == "a\\u2028b\\udcff\\x85\\x0a"
    assert json.loads(access_log.formatter("json")(exchange))["user"] == "a\\u2028b\\udcff\\x85\\x0a"
