"""The proxyheaders filter: what trusted proxies tell is believed hop by hop; everything else is removed."""

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import proxyheaders
from tests.wsgi.middleware.wire import Seen, ask

NETS = "10.0.0.0/8, ::1"
ALL = "x-forwarded-for, X-Forwarded-Proto, x-forwarded-host, x-forwarded-port, x-forwarded-prefix"


def seen(peer="10.0.0.1", conf=None, **headers):
    app = Seen()
    wrap = proxyheaders.factory({}, **{"trusted_proxies": NETS, "trusted_proxy_headers": ALL, **(conf or {})})
    assert ask(wrap, app, REMOTE_ADDR=peer, host="inner:80", **headers).status == 200
    return app.environ


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.2.2.2", "203.0.113.7"),
        ("203.0.113.7, 10.2.2.2, 10.3.3.3", "203.0.113.7"),
        ("10.9.9.9, 10.2.2.2", "10.9.9.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("unknown", "unknown"),
        ("203.0.113.7, unknown, 10.2.2.2", "unknown"),
        ("203.0.113.7, <script>", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_client_is_the_first_untrusted_hop_from_the_right(header, client):
    assert seen(x_forwarded_for=header)["REMOTE_ADDR"] == client


def test_scheme_host_port_and_prefix():
    environ = seen(
        x_forwarded_for="203.0.113.7",
        x_forwarded_proto="HTTPS",
        x_forwarded_host="api.example.org",
        x_forwarded_port="8443",
        x_forwarded_prefix="/compute/",
    )
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTP_HOST"] == "api.example.org:8443"
    assert environ["SCRIPT_NAME"] == "/compute"


def test_lists_are_read_at_the_clients_hop():
    environ = seen(
        x_forwarded_for="6.6.6.6, 203.0.113.7, 10.2.2.2",
        x_forwarded_proto="gopher, https, http",
        x_forwarded_host="evil, api.example.org, inner",
    )
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("https", "api.example.org")


@pytest.mark.parametrize("header", ["x_forwarded_host", "x_forwarded_prefix", "x_forwarded_proto"])
@pytest.mark.parametrize("value", ["a b", "/../x y", "x/y", "a\tb", "[::1", "javascript"])
def test_nonsense_changes_nothing(header, value):
    environ = seen(x_forwarded_for="203.0.113.7", **{header: value})
    assert (environ["wsgi.url_scheme"], environ["SCRIPT_NAME"]) == ("http", "")
    assert environ["HTTP_HOST"] in ("inner:80", value if value == "javascript" else "")


FORGED = {
    "x_forwarded_for": "1.2.3.4",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "evil",
    "x_forwarded_prefix": "/x",
    "forwarded": "for=1.2.3.4",
    "x_real_ip": "1.2.3.4",
}


@pytest.mark.parametrize(
    ("peer", "conf"), [("203.0.113.9", {}), ("", {"trusted_proxies": ""}), ("10.0.0.1", {"trusted_proxies": ""})]
)
def test_from_an_untrusted_peer_nothing_is_believed_and_nothing_is_left(peer, conf):
    environ = seen(peer, conf, **FORGED)
    assert environ["REMOTE_ADDR"] == peer
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SCRIPT_NAME"]) == ("http", "inner:80", "")
    assert not [key for key in environ if "FORWARDED" in key or "REAL_IP" in key]


def test_a_unix_peer_is_trusted_where_any_is():
    assert seen("", x_forwarded_for="203.0.113.7")["REMOTE_ADDR"] == "203.0.113.7"


def test_a_header_that_is_not_named_is_neither_believed_nor_left():
    environ = seen(conf={"trusted_proxy_headers": "x-forwarded-for"}, **FORGED)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("1.2.3.4", "http", "inner:80")
    assert [key for key in environ if "FORWARDED" in key or "REAL_IP" in key] == ["HTTP_X_FORWARDED_FOR"]
    environ = seen(x_forwarded_for="203.0.113.7", forwarded="for=6.6.6.6;host=evil;proto=https")
    assert (environ["REMOTE_ADDR"], environ["HTTP_HOST"]) == ("203.0.113.7", "inner:80")
    assert "HTTP_FORWARDED" not in environ
    environ = seen(
        conf={"trusted_proxy_headers": "Forwarded"},
        x_forwarded_for="6.6.6.6",
        x_forwarded_prefix="/x",
        forwarded="for=203.0.113.7",
    )
    assert (environ["REMOTE_ADDR"], environ["SCRIPT_NAME"]) == ("203.0.113.7", "")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('for=203.0.113.7;proto=https;host="api.example.org"', ("203.0.113.7", "https", "api.example.org")),
        ('For="[2001:db8::7]:4711"; Proto=https', ("2001:db8::7", "https", "inner:80")),
        (
            "for=1.2.3.4;host=evil, for=203.0.113.7;host=a.example, for=10.2.2.2;host=b",
            ("203.0.113.7", "http", "a.example"),
        ),
        ("for=_hidden;host=outer", ("unknown", "http", "outer")),
        ("for=203.0.113.7;for=1.2.3.4;host=x", ("unknown", "http", "inner:80")),
        ('for="203.0.113.7', ("unknown", "http", "inner:80")),
        ("garbage", ("unknown", "http", "inner:80")),
        ("", ("unknown", "http", "inner:80")),
    ],
)
def test_forwarded(header, expected):
    environ = seen(conf={"trusted_proxy_headers": "Forwarded"}, forwarded=header)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == expected


def test_a_header_that_nobody_knows_fails_the_load():
    with pytest.raises(OptionError, match="x-forwarded-by' is none of the fields"):
        proxyheaders.factory({}, trusted_proxy_headers="x-forwarded-by")


def test_daemon_and_filter_read_the_same():
    """The second reader finds what the first has left, and nothing of it changes: both may stand in one pipeline."""
    environ = seen(
        x_forwarded_for="10.9.9.9, 10.2.2.2",
        x_forwarded_host="a",
        x_forwarded_prefix="/x",
    )
    before = dict(environ)
    assert (environ["REMOTE_ADDR"], environ["HTTP_HOST"], environ["SCRIPT_NAME"]) == ("10.9.9.9", "a", "/x")
    made = proxyheaders.factory({}, trusted_proxies=NETS, trusted_proxy_headers=ALL)(lambda environ, _start: [environ])
    assert made(environ, None) == [before]
