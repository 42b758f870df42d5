"""nova's way of writing limits, without the bugs of nova's reading."""

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import ratelimit
from apid.wsgi.ratelimit.limit import DEFAULT, Limit, LimitSet, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(GET, *, .*, 10, MINUTE)", [("GET", "*", ".*", 10, "MINUTE")]),
        ("(get,*,.*,10,minute);", [("GET", "*", ".*", 10, "MINUTE")]),
        ('(POST, "*/servers", "^/servers", 50, DAY)', [("POST", "*/servers", "^/servers", 50, "DAY")]),
        ("(POST, '*', '.*', 5, HOUR)", [("POST", "*", ".*", 5, "HOUR")]),
        ("(PUT, a{1,3}, a{1,3}, 5, SECOND)", None),
        ("(PUT, some a, a{1,3}, 5, SECOND)", [("PUT", "some a", "a{1,3}", 5, "SECOND")]),
        ('(PUT, "a, b", ^/(a|b);(x), 5, SECOND)', [("PUT", "a, b", "^/(a|b);(x)", 5, "SECOND")]),
        ("(*, all, .*, 5, SECOND)", [("*", "all", ".*", 5, "SECOND")]),
        ("", []),
        (
            "(POST, *, .*, 10, MINUTE);(POST, */s, ^/servers, 50, DAY);\n  (PUT, *, .*, 10, MINUTE)\n(GET, x, x, 3, HOUR) ; \n",
            [
                ("POST", "*", ".*", 10, "MINUTE"),
                ("POST", "*/s", "^/servers", 50, "DAY"),
                ("PUT", "*", ".*", 10, "MINUTE"),
                ("GET", "x", "x", 3, "HOUR"),
            ],
        ),
    ],
)
def test_reading(text, expected):
    if expected is None:  # an unquoted uri cannot hold a comma: what follows it is taken for the regex
        assert parse(text)[0].uri == "a{1"
        return
    assert [(one.verb, one.uri, one.regex, one.value, one.unit) for one in parse(text)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GET, *, .*, 10, MINUTE", "entry 1 is not (VERB, uri, regex, value, UNIT)"),
        ("(GET, *, .*, 10)", "entry 1 is not"),
        ("(GET, *, .*, 10, MINUTE); (GET, *", "entry 2 is not"),
        ("(GET, *, .*, ten, MINUTE)", "the value 'ten' must be an integer"),
        ("(GET, *, .*, 0, MINUTE)", "the value 0 must be at least 1"),
        ("(GET, *, .*, 40000, SECOND)", "at most 31622 per SECOND"),
        ("(GET, *, .*, 10, FORTNIGHT)", "the unit 'FORTNIGHT' must be one of SECOND, MINUTE, HOUR, DAY"),
        ("(GET, *, (, 10, MINUTE)", "the regex '(' is wrong"),
        ("(G E T, *, .*, 10, MINUTE)", "'G E T' is no HTTP method"),
        ("(GET, *, .*, 10, MINUTE); (GET, *, .*, 10, MINUTE)", "entry 2 (GET, *, .*, 10, MINUTE): is there already"),
    ],
)
def test_what_cannot_be_read_names_entry_and_cause(text, said):
    with pytest.raises(OptionError) as caught:
        ratelimit.factory({}, limits=text)
    assert said in str(caught.value)
    assert (caught.value.filter_name, caught.value.option) == ("ratelimit", "limits")
    with pytest.raises(OptionError) as caught:
        ratelimit.factory({}, **{"limits.joe": text})
    assert caught.value.option == "limits.joe"


def test_a_day_is_a_day():
    assert Limit.make("GET", "*", ".*", 1, "DAY").capacity == 86400 * 10**9


@pytest.mark.parametrize("unit", ["SECOND", "MINUTE", "HOUR", "DAY"])
@pytest.mark.parametrize("value", [1, 2, 3, 7, 120, 999, 31622])
def test_value_hits_fill_the_bucket_and_one_more_does_not_fit(value, unit):
    limit = Limit.make("GET", "*", ".*", value, unit)
    assert value * limit.cost <= limit.capacity < (value + 1) * limit.cost
    assert [limit.remaining(hits * limit.cost) for hits in (0, 1, value)] == [value, value - 1, 0]


@pytest.mark.parametrize(
    ("regex", "path", "full_path", "hit"),
    [
        ("^/servers", "/servers", "/servers", True),
        ("^/servers", "/servers/1", "/v2/servers/1", True),
        (".*/v2/.*", "/servers/1", "/v2/servers/1", True),
        ("^/v2/servers", "/servers/1", "/v2/servers/1", True),
        ("^/servers", "/flavors", "/v2/flavors", False),
        ("/servers$", "/x/servers", "/x/servers", False),
        (".*changes-since.*", "/servers?changes-since=1", "/servers?changes-since=1", True),
    ],
)
def test_the_path_is_matched_with_and_without_the_mount(regex, path, full_path, hit):
    assert Limit.make("GET", "*", regex, 1, "DAY").matches(path, full_path) is hit


def test_limits_by_method():
    limits = parse("(GET, g, .*, 1, DAY); (POST, p, .*, 2, DAY); (*, all, .*, 3, DAY)")
    held = LimitSet(limits)
    uris = {verb: [one.uri for one in held.of(verb)] for verb in ("GET", "HEAD", "POST", "BREW")}
    assert uris == {"GET": ["g", "all"], "HEAD": ["g", "all"], "POST": ["p", "all"], "BREW": ["all"]}
    assert LimitSet(DEFAULT).of("OPTIONS") == ()
    assert [one.value for one in DEFAULT] == [120, 120, 120, 120, 120, 12]
