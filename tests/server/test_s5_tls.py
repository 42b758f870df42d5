"""S5: TLS. A client that stalls or resets in the handshake harms nobody."""

import dataclasses
import socket
import ssl
import struct
import tempfile

import pytest

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.apps import framing
from tests.support.certificates import LONG_AGO, Authority, openssl
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for


@pytest.fixture(scope="module")
def engine(serving, certificate):
    cert, key = certificate
    with serving(framing.app, Http(header_timeout=1), tls=Tls(str(cert), str(key))) as engines:
        yield engines


@pytest.fixture
def tls(certificate):
    return ssl.create_default_context(cafile=certificate[0])


def test_requests_over_tls(engine, tls):
    with Connection(engine.address, tls=tls) as one:
        environ = one.request(path="/environ").json()
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["HTTPS"] == "on"
        assert environ["SSL_PROTOCOL"].startswith("TLSv1.")
        assert one.request("POST", "/echo", body=b"x" * 300000).body == b"x" * 300000
        assert len(one.request(path="/big?100").body) == 100 * 65536
        one.send(request_bytes(path="/file") + request_bytes())
        assert one.answer().status == 200
        assert one.answer().body == b"body"
        assert one.request(path="/close").closes
        assert one.rest() == b""


@pytest.mark.parametrize(
    ("octets", "status"), [(b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost:", 408)]
)
def test_refusals_go_out_over_tls(engine, tls, octets, status):
    with Connection(engine.address, tls=tls) as one:
        one.send(octets)
        answer = one.answer()
        assert (answer.status, answer.closes) == (status, True)
        assert one.rest() == b""


def test_plain_http_is_told_that_tls_is_spoken_here(engine):
    with Connection(engine.address) as one:
        one.send(request_bytes())
        answer = one.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert "TLS" in answer.json()["badRequest"]["message"]
        assert one.rest() == b""


def test_stalling_resetting_and_garbage_in_the_handshake(engine, tls):
    failures = engine.total(scoreboard.HANDSHAKE_FAILURES)
    stalled = [socket.create_connection(engine.address) for _ in range(20)]
    for one in stalled:
        one.sendall(b"\x16\x03\x01")
    for _ in range(20):
        one = socket.create_connection(engine.address)
        one.sendall(b"\x16\x03\x01\x02\x00")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    with socket.create_connection(engine.address) as garbage:
        garbage.sendall(request_bytes())
        garbage.settimeout(5)
        while garbage.recv(1000):
            pass
    with Connection(engine.address, tls=tls) as good:
        assert good.request().body == b"body"
        timeouts = engine.total(scoreboard.TIMEOUTS)
        for one in stalled:
            one.settimeout(5)
            assert one.recv(10) == b""
            one.close()
    assert engine.total(scoreboard.HANDSHAKE_FAILURES) > failures
    wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)
    assert engine.total(scoreboard.TIMEOUTS) >= timeouts


@pytest.mark.only("eventlet", "eventlet.websocket needs eventlet.input")
def test_websocket_over_tls(engine, tls):
    key = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with Connection(engine.address, tls=tls) as one:
        one.send(request_bytes(path="/websocket", headers=key))
        assert one.sock.recv(1000).startswith(b"HTTP/1.1 101")
        one.send(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")
        assert one.sock.recv(100) == b"\x81\x02hi"
        one.send(bytes([0x88, 0x80, 0, 0, 0, 0]))
        one.rest()


def test_a_client_certificate_is_asked_for_and_told(serving, certificate):
    cert, key = certificate
    settings = Tls(str(cert), str(key), ca_file=str(cert))
    with serving(framing.app, tls=settings) as engine:
        made = ssl.create_default_context(cafile=cert)
        made.load_cert_chain(cert, key)
        with Connection(engine.address, tls=made) as one:
            environ = one.request(path="/environ").json()
            assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
            assert environ["SSL_CLIENT_S_DN"] == "CN=localhost"
        without = ssl.create_default_context(cafile=cert)
        with pytest.raises((ssl.SSLError, ConnectionError)), Connection(engine.address, tls=without) as one:
            one.request()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def trusting(certificate, tmp_path, *, ca, crl=None):
    """Return settings with these authorities and revocation lists, as texts."""
    settings = Tls(str(certificate[0]), str(certificate[1]), ca_file=str(tmp_path / "ca"))
    (tmp_path / "ca").write_text(ca)
    if crl is not None:
        (tmp_path / "crl").write_text(crl)
        settings = dataclasses.replace(settings, crl_file=str(tmp_path / "crl"))
    return settings


def ask(engine, certificate, client, chain=()):
    """Return the environ of a request with a client's certificate; None where the handshake fails."""
    context = ssl.create_default_context(cafile=certificate[0])
    cert, key = client
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(path.read_text() for path in (cert, *chain)))
        file.flush()
        context.load_cert_chain(file.name, key)
    try:
        with Connection(engine.address, tls=context) as one:
            return [one.request(path="/environ").json() for _ in range(2)][-1]
    except (ssl.SSLError, ConnectionError):
        return None


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("/CN=mallory\\/O=x,commonName=root", r"CN=mallory/O=x\,commonName=root"),
        ("/O=x\\+OU=y/CN= a\r\nX: #", r"CN=\ a\0D\0AX: #,O=x\+OU=y"),
        ("/O=a/OU=b+CN=Jürgen", r"CN=J\C3\BCrgen+OU=b,O=a"),
        ("/UID=7/emailAddress=a@b", "emailAddress=a@b,UID=7"),
    ],
)
def test_names_in_client_certificates_are_escaped(serving, certificate, authority, tmp_path, subject, text):
    client = authority.issue(subject, signing=["-set_serial", "0x0f"])
    with serving(framing.app, tls=trusting(certificate, tmp_path, ca=authority.cert.read_text())) as engine:
        environ = ask(engine, certificate, client)
        told = openssl("x509", "-in", client[0], "-noout", "-subject", "-nameopt", "RFC2253")
    assert environ["SSL_CLIENT_S_DN"] == told.removeprefix("subject=").strip() == text
    assert environ["SSL_CLIENT_I_DN"] == "CN=authority"
    assert environ["SSL_CLIENT_M_SERIAL"] == "0F"


def test_revocation_lists_are_checked(serving, certificate, tmp_path):
    root = Authority(tmp_path, "root")
    middle = Authority(tmp_path, "middle", root)
    good, bad = (middle.issue(f"/CN={name}", name=name) for name in ("good", "bad"))
    direct = root.issue("/CN=direct", name="direct")
    middle.revoke(bad[0])
    ca = root.cert.read_text()
    lists = root.revocation_list() + middle.revocation_list()
    root.revoke(middle.cert)  # in the next list
    for crl, served, reason in [
        (None, {"good", "bad", "direct"}, ""),
        (lists, {"good", "direct"}, "certificate revoked"),
        (root.revocation_list() + middle.revocation_list(), {"direct"}, "certificate revoked"),
        (root.revocation_list(), {"direct"}, "unable to get certificate CRL"),
        (middle.revocation_list(), set(), "unable to get certificate CRL"),
        (root.revocation_list(*LONG_AGO), set(), "CRL has expired"),
    ]:
        with serving(framing.app, tls=trusting(certificate, tmp_path, ca=ca, crl=crl)) as engine:
            clients = {"good": good, "bad": bad, "direct": direct}
            found = {
                name
                for name, client in clients.items()
                if ask(engine, certificate, client, () if name == "direct" else [middle.cert])
            }
            assert found == served, crl
            wait_for_failures(engine, len(clients) - len(served), reason)


def wait_for_failures(engine, number, reason):
    """Wait until so many handshakes have failed, one of them for this reason."""
    wait_for(lambda: engine.total(scoreboard.HANDSHAKE_FAILURES) == number and reason in engine.logged())


def offering(certificate, *names, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=certificate[0])
    context.maximum_version = version
    context.set_alpn_protocols(list(names))
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_offers_only_other_protocols_is_refused(engine, certificate, version):
    failures = engine.total(scoreboard.HANDSHAKE_FAILURES)
    for names in (("h2",), ("spdy/3", "acme-tls/1")):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            Connection(engine.address, tls=offering(certificate, *names, version=version))
    assert engine.total(scoreboard.HANDSHAKE_FAILURES) == failures + 2  # counted before the alert is sent
    with Connection(engine.address, tls=offering(certificate, "h2", "http/1.1", version=version)) as one:
        assert one.sock.selected_alpn_protocol() == "http/1.1"
        assert one.request().body == b"body"


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize(
    ("names", "answer"), [(["h2"], b"\x15\x03\x03\x00\x02\x02\x78"), (["http/1.1"], b"\x16\x03\x03")]
)
def test_an_offer_in_small_pieces(engine, certificate, size, names, answer):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = offering(certificate, *names).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(engine.address) as one:
        one.settimeout(5)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), size):
            one.sendall(hello[at : at + size])
        assert one.recv(100).startswith(answer)


def test_half_an_offer_and_an_end(engine, certificate):
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for end in range(1, len(hello) + 1):
        with socket.create_connection(engine.address) as one:
            one.sendall(hello[:end])
            one.shutdown(socket.SHUT_WR)
            one.settimeout(5)
            while one.recv(100):
                pass
    wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_keeps_its_client_certificate(serving, certificate, authority, tmp_path, version):
    cert, key = authority.issue("/CN=again")
    context = ssl.create_default_context(cafile=certificate[0])
    context.maximum_version = version
    context.load_cert_chain(cert, key)
    with serving(framing.app, tls=trusting(certificate, tmp_path, ca=authority.cert.read_text())) as engine:
        with Connection(engine.address, tls=context) as one:
            first = one.request(path="/environ").json()
            session = one.sock.session
        plain = socket.create_connection(engine.address)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as again:
            assert again.session_reused
            again.sendall(request_bytes(path="/environ", headers={"Connection": "close"}))
            answer = b"".join(iter(lambda: again.recv(65536), b""))
    assert first["SSL_CLIENT_S_DN"] == "CN=again"
    assert b'"SSL_CLIENT_S_DN": "CN=again"' in answer
