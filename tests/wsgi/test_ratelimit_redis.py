"""Counts in a real Redis: exact over processes, and what happens while it is killed, stopped, back."""

import shutil
import subprocess
import sys

import pytest

from apid.wsgi.middleware import ratelimit
from apid.wsgi.ratelimit import outage
from tests.support.processes import wait_until
from tests.support.redis_server import Redis
from tests.wsgi.middleware.wire import Seen, ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="needs Debian's redis-server, which .ci/run installs"),
]


@pytest.fixture
def redis(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def limiter(redis):
    made = []

    def make(limits="(GET, *, .*, 100, DAY)", app=None, **conf):
        found = ratelimit.factory({}, storage=redis.uri, limits=limits, **conf)(app or Seen())
        made.append(found)
        return lambda _: found

    yield make
    for one in made:
        one._counts._counts._window.storage.storage.connection_pool.disconnect()


WORKER = """
import sys
from apid.wsgi.middleware import ratelimit
def ok(environ, start_response):
    start_response("200 OK", [])
    return []
app = ratelimit.factory({}, storage=sys.argv[1], limits="(GET, *, .*, 100, DAY)", on_error="deny")(ok)
seen = []
for _ in range(125):
    app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, *rest: seen.append(status))
print(seen.count("200 OK"), seen.count("429 Too Many Requests"))
"""


def test_t2_over_processes_as_over_machines(redis):
    some = [
        subprocess.Popen([sys.executable, "-c", WORKER, redis.uri], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    counts = [tuple(map(int, worker.communicate(timeout=60)[0].split())) for worker in some]
    assert [sum(column) for column in zip(*counts, strict=True)] == [100, 400]


def test_the_answers(limiter):
    wrap = limiter("(GET, *, .*, 2, HOUR)")
    assert [ask(wrap, None).headers["RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    answer = ask(wrap, None)
    assert answer.status == 429
    assert 3590 <= int(answer.headers["Retry-After"]) <= 3600  # a moving window: when the first hit is an hour old
    assert ask(wrap, None, REMOTE_ADDR="x").status == 429


def test_names_share_or_do_not(limiter):
    one, two = limiter("(GET, *, .*, 1, DAY)", name="a"), limiter("(GET, *, .*, 1, DAY)", name="b")
    assert [ask(wrap, None).status for wrap in (one, one, two, two)] == [200, 429, 200, 429]


def test_the_window_moves(limiter):
    wrap = limiter("(GET, *, .*, 2, SECOND)")
    wait_until(lambda: ask(wrap, None).status == 429, "a refusal", 10)
    wait_until(lambda: ask(wrap, None).status == 200, "the window to move", 10)


def test_nova_limits_asks_without_charging(limiter):
    app = Seen()
    wrap = limiter("(GET, *, .*, 2, HOUR); (POST, *, .*, 5, HOUR)", app)
    ask(wrap, None)
    for _ in range(2):
        assert [entry["remaining"] for entry in list(app.environ["nova.limits"])] == [1, 5]


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_killed_and_restarted(redis, limiter, on_error, status, caplog):
    wrap = limiter("(GET, *, .*, 3, DAY)", on_error=on_error)
    assert ask(wrap, None).headers["RateLimit-Remaining"] == "2"
    redis.kill()
    assert [ask(wrap, None).status for _ in range(50)] == [status] * 50
    assert len(caplog.records) == 1
    assert f"127.0.0.1:{redis.port}" in caplog.text
    redis.start()
    wait_until(lambda: "RateLimit-Remaining" in ask(wrap, None).headers, "counting", outage.RETRY + 10)
    assert "counted again" in caplog.records[-1].getMessage()


def test_restarted_between_two_requests_nobody_notices(redis, limiter, caplog):
    """The pooled connection is dead; the one retry opens another."""
    wrap = limiter("(GET, *, .*, 3, DAY)", on_error="deny")
    assert ask(wrap, None).status == 200
    redis.kill()
    redis.start()
    assert ask(wrap, None).status == 200
    assert not caplog.records


GREEN = """
import eventlet
eventlet.monkey_patch()
import os, signal, sys, time
from apid.wsgi.middleware import ratelimit
def ok(environ, start_response):
    start_response("200 OK", [])
    return []
app = ratelimit.factory({}, storage=sys.argv[1], limits="(GET, *, .*, 1000, DAY)", timeout="500ms")(ok)
def ask():
    return list(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *rest: None))
ask()
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        eventlet.sleep(0.01)
eventlet.spawn(tick)
os.kill(int(sys.argv[2]), signal.SIGSTOP)
started = time.monotonic()
threads = [eventlet.spawn(ask) for _ in range(20)]
for thread in threads:
    thread.wait()
took = time.monotonic() - started
os.kill(int(sys.argv[2]), signal.SIGCONT)
print(took, ticks)
"""


def test_a_stopped_redis_does_not_stop_the_hub(redis):
    """Twenty green requests wait for their timeouts at the same time, and everybody else goes on meanwhile."""
    command = [sys.executable, "-W", "ignore", "-c", GREEN, redis.uri, str(redis.process.pid)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    took, ticks = map(float, run.stdout.split())
    assert took > 0.4  # they did wait
    assert ticks >= 20
