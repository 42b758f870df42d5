"""Options of paste factories: typed values, or an error that names filter, option, value and what is allowed."""

import dataclasses
import enum
import ipaddress

import pytest

from apid.wsgi import factory, kinds
from apid.wsgi.factory import OptionError, option, read


class Mode(enum.Enum):
    ALLOW = "allow"
    DENY = "deny"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    flag: bool = option(kinds.boolean, default=False, help="A flag.")
    count: int = option(kinds.integer(minimum=1, maximum=9), default=3, help="A count.")
    ratio: float = option(kinds.number(minimum=0, maximum=1), default=0.5, help="A ratio.")
    wait: float = option(kinds.seconds(maximum=86400), default=1.0, help="A wait.")
    room: int = option(kinds.size(minimum=1), default=10, aliases=["osapi_room"], help="A room.")
    names: tuple[str, ...] = option(kinds.listed(kinds.word), default=(), help="Names.")
    nets: tuple[kinds.Network, ...] = option(kinds.networks, default=(), help="Networks.")
    word: str = option(kinds.choice("redis", "shared"), default="shared", help="A word.")
    mode: Mode = option(kinds.member(Mode), default=Mode.ALLOW, help="A mode.")
    dashed: str = option(kinds.text, default="", name="a-b", help="A name that Python cannot spell.")
    limits: dict[str, int] = factory.options_by_prefix(kinds.integer(), "limits.", help="By user.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Needy:
    url: str = option(kinds.word, help="Where to.")


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        *(("flag", w, True) for w in ("1", "true", "Yes", "ON", "t", "y")),
        *(("flag", w, False) for w in ("0", "false", "No", "OFF", "f", "n")),
        ("count", "9", 9),
        ("count", " 1 ", 1),
        ("ratio", "0.25", 0.25),
        ("ratio", "1", 1.0),
        ("wait", "1.5", 1.5),
        ("wait", "250ms", 0.25),
        ("wait", "2 m", 120.0),
        ("wait", "1h", 3600.0),
        ("room", "512", 512),
        ("room", "112K", 112 * 1024),
        ("room", "1 MiB", 2**20),
        ("room", "2gb", 2**31),
        ("names", "a, b,\n c,,", ("a", "b", "c")),
        ("names", "", ()),
        ("word", "REDIS", "redis"),
        ("mode", "Deny", Mode.DENY),
        ("nets", "10.0.0.1/8, ::1", (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))),
    ],
)
def test_value(name, written, value):
    assert getattr(read(Options, "f", {name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("flag", "maybe", "one of true"),
        ("flag", "", "one of true"),
        ("count", "0", "from 1 to 9"),
        ("count", "10", "from 1 to 9"),
        ("count", "1_0", "an integer"),
        ("count", "٣", "an integer"),
        ("count", "1.0", "an integer"),
        ("count", "9" * 5000, "an integer"),
        ("ratio", "nan", "a number"),
        ("ratio", "inf", "a number"),
        ("ratio", "x", "a number"),
        ("ratio", "1.1", "from 0 to 1"),
        ("wait", "-1", "a time in seconds"),
        ("wait", "1w", "a time in seconds"),
        ("wait", "2d", "to 86400"),
        ("room", "0", "at least 1"),
        ("room", "1X", "a size in bytes"),
        ("room", "-1", "a size in bytes"),
        ("nets", "10.0.0.0/8, nonsense", "nonsense is not"),
        ("nets", "10.0.0.0/33", "10.0.0.0/33 is not"),
        ("word", "disk", "one of redis, shared"),
        ("mode", "perhaps", "one of allow, deny"),
        ("limits.joe", "x", "an integer"),
    ],
)
def test_wrong_value_names_filter_option_value_and_what_is_allowed(name, written, allowed):
    with pytest.raises(OptionError) as caught:
        read(Options, "sizelimit", {name: written})
    assert (caught.value.filter_name, caught.value.option, caught.value.value) == ("sizelimit", name, written)
    for part in ("sizelimit", f"option {name}", written, allowed):
        assert part in str(caught.value)


def test_defaults_and_dashed_and_prefix():
    assert read(Options, "f", {}) == Options()
    found = read(Options, "f", {"a-b": "x", "limits.joe": "3", "limits.ann": "4", "osapi_room": "1K"})
    assert (found.dashed, found.limits, found.room) == ("x", {"joe": 3, "ann": 4}, 1024)


def test_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match="f: option coutn: is not known; the nearest is count"):
        read(Options, "f", {"coutn": "3"})
    with pytest.raises(OptionError, match="it takes url"):
        read(Needy, "f", {"url": "x", "zzz": "3"})


def test_the_value_of_an_unknown_option_is_not_told():
    with pytest.raises(OptionError) as caught:
        read(Options, "f", {"admin_pasword": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_missing_option():
    with pytest.raises(OptionError, match="f: option url: is needed: a text, not empty") as caught:
        read(Needy, "f", {})
    assert caught.value.value is None


def test_two_spellings_of_one_option():
    with pytest.raises(OptionError, match="osapi_room = 2: is another name of room"):
        read(Options, "f", {"room": "1", "osapi_room": "2"})


def test_an_option_in_default_or_after_set():
    outside = {"here": "/etc", "__file__": "/etc/x.ini", "count": "4", "something": "else", "limits.joe": "1"}
    found = read(Options, "f", {}, outside)
    assert (found.count, found.limits) == (4, {})
    assert read(Options, "f", {"count": "2"}, outside).count == 2
    assert read(Needy, "f", {}, {"url": "u"}).url == "u"
    with pytest.raises(OptionError, match="f: option count = 40: must be an integer from 1 to 9"):
        read(Options, "f", {}, {"count": "40"})


def test_values_from_python_are_taken_as_they_are():
    assert read(Options, "f", {"count": 4, "names": ("x",)}).names == ("x",)


def test_factories_wrap_and_carry_their_options():
    def make(app, options):
        return app, options

    filters = factory.filter_factory("f", Options, make)
    assert filters({"here": "/"}, count="2")("app") == ("app", Options(count=2))
    assert (filters.options, filters.filter_name) == (Options, "f")
    apps = factory.app_factory("a", Needy, lambda options: options)
    assert apps({}, url="u") == Needy(url="u")
    assert [entry.name for entry in factory.declared(Options)][-2:] == ["a-b", "limits."]


def test_a_wrong_option_fails_when_the_factory_is_called_not_at_the_first_request():
    with pytest.raises(OptionError):
        factory.filter_factory("f", Options, lambda app, options: app)({}, count="x")
