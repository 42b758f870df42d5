"""The ipfilter filter: networks of both versions on REMOTE_ADDR, deny before allow."""

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import ipfilter
from tests.wsgi.middleware.wire import Seen, ask


@pytest.mark.parametrize(
    ("conf", "peer", "status"),
    [
        ({}, "192.0.2.1", 200),
        ({}, "", 200),
        ({"deny": "192.0.2.0/24"}, "192.0.2.1", 403),
        ({"deny": "192.0.2.0/24"}, "192.0.3.1", 200),
        ({"deny": "192.0.2.0/24"}, "::ffff:192.0.2.1", 403),
        ({"deny": "2001:db8::/32"}, "2001:db8::1", 403),
        ({"deny": "fe80::/10"}, "fe80::1%eth0", 403),
        ({"allow": "10.0.0.0/8, ::1"}, "10.1.2.3", 200),
        ({"allow": "10.0.0.0/8, ::1"}, "::1", 200),
        ({"allow": "10.0.0.0/8, ::1"}, "11.1.2.3", 403),
        ({"allow": "10.0.0.0/8", "deny": "10.1.0.0/16"}, "10.1.2.3", 403),
        ({"allow": "10.0.0.0/8", "deny": "10.1.0.0/16"}, "10.2.2.3", 200),
        ({"allow": "10.0.0.0/8"}, "", 403),
        ({"allow": "10.0.0.0/8"}, "10.0.0.1.evil.example", 403),
        ({"allow": "10.0.0.0/8", "allow_unix": "true"}, "", 200),
        ({"allow": "::ffff:10.0.0.0/104"}, "10.0.0.1", 200),
        ({"deny": "::ffff:10.0.0.1"}, "::ffff:10.0.0.1", 403),
        ({"deny": "192.0.2.1"}, "", 200),
        ({}, "unknown", 200),
        ({"deny": "192.0.2.1"}, "unknown", 403),
        ({"allow": "0.0.0.0/0, ::/0", "allow_unix": "true"}, "unknown", 403),
    ],
)
def test_verdict(conf, peer, status):
    wrap = ipfilter.factory({}, **conf)
    answer = ask(wrap, Seen(), REMOTE_ADDR=peer, host="10.0.0.1", x_forwarded_for="10.0.0.1")
    assert answer.status == status
    if status == 403:
        assert answer.json["forbidden"]["code"] == 403
        assert peer not in answer.json["forbidden"]["message"] or not peer


def test_verdicts_are_remembered_and_the_memory_is_bounded():
    made = ipfilter.factory({}, deny="10.0.0.0/8")(Seen())
    for number in range(ipfilter._REMEMBERED + 10):
        peer = f"10.1.{number // 256}.{number % 256}"
        started = []
        for _ in range(2):
            made(
                {"REMOTE_ADDR": peer, "REQUEST_METHOD": "GET"},
                lambda status, headers, started=started: started.append(status),
            )
        assert started == ["403 Forbidden"] * 2
    assert len(made._verdicts) <= ipfilter._REMEMBERED


def test_a_wrong_network_is_an_error():
    with pytest.raises(OptionError, match=r"ipfilter: option deny = 10.0.0.0/8, 300.1.1.1: .*300.1.1.1 is not"):
        ipfilter.factory({}, deny="10.0.0.0/8, 300.1.1.1")
