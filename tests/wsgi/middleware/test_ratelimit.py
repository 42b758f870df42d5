"""The ratelimit filter as clients see it: 429 with its fault and headers, whose hits count together, and GET /limits."""

import calendar
import time

import pytest

from apid.wsgi.context import Context
from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import ratelimit
from apid.wsgi.ratelimit import limitsapp
from apid.wsgi.ratelimit.charge import StorageError
from tests.wsgi.middleware.wire import Seen, ask

THREE = "(GET, *, .*, 3, DAY)"


@pytest.fixture
def limiter(tmp_path):
    """Make a filter factory; its table is closed after the test."""
    made = []

    def make(limits=THREE, **conf):
        wrap = ratelimit.factory({}, limits=limits, state_dir=str(tmp_path), name=f"n{len(made)}", **conf)
        made.append(wrap(None)._counts._counts)
        return wrap

    yield make
    for table in made:
        table.close()


def user(name, **more):
    return {"apid.context": Context(user_id=name, **more)}


def test_the_refusal(limiter):
    wrap = limiter()
    assert [ask(wrap, Seen()).status for _ in range(3)] == [200] * 3
    answer = ask(wrap, Seen())
    assert answer.status == 429
    fault = answer.json["overLimit"]
    assert (fault["code"], fault["message"]) == (429, "This request was rate-limited.")
    assert fault["details"] == "The limit is 3 GET requests a day for *."
    assert fault["request_id"].startswith("req-")
    wait = int(answer.headers["Retry-After"])
    assert fault["retryAfter"] == str(wait)
    assert 86400 / 3 - 60 < wait <= 86400 / 3  # the first third must leak
    assert answer.headers["RateLimit-Limit"] == "3"
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["RateLimit-Policy"] == "3;w=86400"
    assert int(answer.headers["RateLimit-Reset"]) >= wait


def test_headers_of_what_passes(limiter):
    wrap = limiter("(GET, *, .*, 100, MINUTE); (GET, *, .*, 3, DAY)")
    answer = ask(wrap, Seen([("X-Thing", "7")]))
    assert answer.headers["X-Thing"] == "7"
    assert answer.headers["RateLimit-Limit"] == "3"  # the one that is nearest to its end
    assert answer.headers["RateLimit-Remaining"] == "2"
    assert 86400 / 3 - 60 < int(answer.headers["RateLimit-Reset"]) <= 86400 / 3
    assert not [name for name in ask(wrap, Seen(), method="PUT").headers if name.startswith("RateLimit")]
    assert not [name for name in ask(limiter(headers="off"), Seen()).headers if name.startswith("RateLimit")]


def test_the_shortest_wait_is_told(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY); (GET, *, .*, 1, HOUR)")
    ask(wrap, Seen())
    answer = ask(wrap, Seen())
    assert int(answer.headers["Retry-After"]) <= 3600
    assert "hour" in answer.json["overLimit"]["details"]


def statuses(wrap, *environs, **extra):
    return [ask(wrap, Seen(), **environ, **extra).status for environ in environs]


def test_users_are_counted_apart_and_nobody_is_one_of_them(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)")
    ann, joe = user("ann"), user("joe")
    assert statuses(wrap, ann, ann, joe, joe, {}, {}, user("-"), user("")) == [200, 429, 200, 429, 200, 429, 200, 200]


def test_novas_context_is_read_too(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)")
    ann = {"nova.context": Context(user_id="ann")}
    assert statuses(wrap, ann, user("ann")) == [200, 429]


def test_by_project_and_by_address(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)", key="project")
    assert statuses(wrap, user("ann", project_id="p"), user("joe", project_id="p"), user("ann", project_id="q")) == [
        200,
        429,
        200,
    ]
    wrap = limiter("(GET, *, .*, 1, DAY)", key="address")
    assert statuses(wrap, user("ann"), user("joe"), {"REMOTE_ADDR": "192.0.2.2"}) == [200, 429, 200]


def test_an_address_is_one_key_in_each_spelling_and_unknown_clients_are_counted(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)", key="address")
    peers = ["192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "unknown", "unknown", "", ""]
    assert statuses(wrap, *({"REMOTE_ADDR": peer} for peer in peers)) == [200, 429, 200, 200, 429, 200, 429]


def test_limits_of_one_user(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)", **{"limits.ann": "(GET, *, .*, 2, DAY)", "limits.root": ""})
    assert statuses(wrap, *[user("ann")] * 3) == [200, 200, 429]
    assert statuses(wrap, *[user("joe")] * 2) == [200, 429]
    assert statuses(wrap, *[user("root")] * 5) == [200] * 5


def test_only_what_matches_is_charged(limiter):
    wrap = limiter("(POST, */servers, ^/servers, 1, DAY)")
    ask(wrap, Seen(), "/servers", "POST")
    assert ask(wrap, Seen(), "/servers", "POST").status == 429
    assert ask(wrap, Seen(), "/servers/1", "POST", SCRIPT_NAME="/v2").status == 429
    assert ask(wrap, Seen(), "/flavors", "POST").status == 200
    assert ask(wrap, Seen(), "/servers", "GET").status == 200


def test_the_query_is_part_of_what_is_matched(limiter):
    wrap = limiter("(GET, *changes-since*, .*changes-since.*, 1, DAY)")
    found = [
        ask(wrap, Seen(), QUERY_STRING=query).status for query in ("", "", "changes-since=x", "a=1&changes-since=y")
    ]
    assert found == [200, 200, 200, 429]


def test_head_is_counted_as_get(limiter):
    wrap = limiter("(GET, *, .*, 1, DAY)")
    assert [ask(wrap, Seen(), method=method).status for method in ("HEAD", "GET")] == [200, 429]


# --- nova.limits and GET /limits -------------------------------------------------------------------------------------


def test_nova_limits(limiter):
    app = Seen()
    ask(limiter("(GET, *, .*, 3, DAY); (POST, */s, ^/s, 5, HOUR)"), app)
    first, second = app.environ["nova.limits"]
    assert len(app.environ["nova.limits"]) == 2
    assert {**first, "resetTime": 0} == {
        "verb": "GET",
        "URI": "*",
        "regex": ".*",
        "value": 3,
        "remaining": 2,
        "unit": "DAY",
        "resetTime": 0,
    }
    assert abs(first["resetTime"] - time.time()) < 5
    assert (second["URI"], second["remaining"]) == ("*/s", 5)


def test_get_limits(limiter):
    wrap = limiter("(GET, *, .*, 2, DAY); (POST, *, .*, 10, MINUTE); (POST, */s, ^/s, 5, HOUR)")
    app = limitsapp.app({}, **{"absolute.maxTotalCores": "20", "absolute.maxImageMeta": "-1"})
    answer = ask(wrap, app)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
    limits = answer.json["limits"]
    assert limits["absolute"] == {"maxTotalCores": 20, "maxImageMeta": -1}
    assert [(group["uri"], group["regex"], [one["verb"] for one in group["limit"]]) for group in limits["rate"]] == [
        ("*", ".*", ["GET", "POST"]),
        ("*/s", "^/s", ["POST"]),
    ]
    first = limits["rate"][0]["limit"][0]
    assert (first["value"], first["remaining"], first["unit"]) == (2, 1, "DAY")
    told = calendar.timegm(time.strptime(first["next-available"], "%Y-%m-%dT%H:%M:%SZ"))
    assert abs(told - time.time()) < 5


def test_limits_app_alone():
    app = limitsapp.app({})
    assert ask(lambda _: app, None).json == {"limits": {"rate": [], "absolute": {}}}
    assert ask(lambda _: app, None, "/x").status == 404
    refused = ask(lambda _: app, None, method="POST", body=b"{}")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    with pytest.raises(OptionError, match=r"limits: option absolute.maxTotalCores = many: must be an integer"):
        limitsapp.app({}, **{"absolute.maxTotalCores": "many"})


# --- while the counts are away ---------------------------------------------------------------------------------------


class Away:
    """Counts that are away until told otherwise."""

    def __init__(self, counts):
        self.counts, self.away, self.asked = counts, True, 0

    def charge(self, who, limits):
        self.asked += 1
        if self.away:
            raise StorageError("redis://***@host: gone")
        return self.counts.charge(who, limits)

    peek = charge


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_on_error(limiter, on_error, status, caplog, monkeypatch):
    wrap = limiter(on_error=on_error)
    made = wrap(Seen())
    made._counts._counts = away = Away(made._counts._counts)
    now = [1000.0]
    monkeypatch.setattr("apid.wsgi.ratelimit.outage.time.monotonic", lambda: now[0])
    answers = [ask(lambda _: made, None) for _ in range(5)]
    assert {answer.status for answer in answers} == {status}
    assert away.asked == 1  # the others did not wait for the same answer
    if status == 503:
        assert answers[0].json["serviceUnavailable"]["code"] == 503
        assert answers[0].headers["Retry-After"] == "1"
    assert len(caplog.records) == 1
    assert "gone" in caplog.text
    for _ in range(10):
        now[0] += 1.1
        ask(lambda _: made, None)
    assert (away.asked, len(caplog.records)) == (11, 1)  # asked every second, said once a minute
    now[0] += 60
    ask(lambda _: made, None)
    assert len(caplog.records) == 2
    away.away = False
    now[0] += 1.1
    assert ask(lambda _: made, None).headers["RateLimit-Remaining"] == "2"
    assert "counted again" in caplog.records[-1].getMessage()


def test_limits_are_told_while_the_counts_are_away(limiter):
    app = Seen()
    made = limiter()(app)
    made._counts._counts = Away(made._counts._counts)
    ask(lambda _: made, None)
    assert [(entry["value"], entry["remaining"]) for entry in app.environ["nova.limits"]] == [(3, 3)]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"storage": "disk"}, "storage = disk: must be shared, or the URI"),
        ({"storage": "gopher://host"}, "storage = gopher://host: unknown storage scheme"),
        ({"storage": "memory://"}, "counts for each process alone"),
        ({"key": "cookie"}, "one of user, project, address"),
        ({"buckets": "5"}, "from 1024"),
        ({"on_error": "shrug"}, "one of allow, deny"),
        ({"limiter": "a.b.c"}, "limiter: is not known; the nearest is limits"),
    ],
)
def test_wrong_options(conf, said):
    with pytest.raises(OptionError, match="ratelimit: option") as caught:
        ratelimit.factory({}, **conf)
    assert said in str(caught.value)


@pytest.mark.parametrize("uri", ["gopher://me:hunter2@host", "//me:hunter2@host"])
def test_a_password_does_not_reach_an_error(uri):
    with pytest.raises(OptionError) as caught:
        ratelimit.factory({}, storage=uri)
    assert "hunter2" not in str(caught.value)
