"""S4 behind HAProxy and nginx, which append their account of a client to whatever that client has sent."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import subprocess

import pytest

from apid.conf.settings import Http
from apid.wsgi.middleware import ipfilter
from tests.support.apps import framing
from tests.support.client import Connection
from tests.support.engine import wait_for
from tests.support.haproxy import free_port

PROXY = "127.0.0.1"
CLIENT = "127.0.0.5"
HERE = (ipaddress.ip_network(PROXY),)
FORGED = [
    [], ["@@@"],
    [";;;="], ['for="'], ['for="127.0.0.1'], ['for="127.0.0.1";by="\\'], ["for=127.0.0.1;for=127.0.0.1"], ["x, " * 1000],
    ["for=127.0.0.1"],
    ["127.0.0.1"], ["unknown"], [""], [","], ['"'], ['for="', 'for="'], ["@@@", 'x="\\"'], ["for=127.0.0.1, for=127.0.0.1"],
]  # fmt: skip
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
{sections}
"""
SECTION = """
listen {name}
  bind {bind}
  {options}
  server apid {server}
"""
NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  large_client_header_buffers 4 32k;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header Forwarded "$http_forwarded, for=$remote_addr;by=\\"_nginx, here\\"";
  server {{ listen 127.0.0.1:{lists}; location / {{ proxy_pass http://{list_server}; }} }}
  server {{ listen 127.0.0.1:{standard}; location / {{ proxy_pass http://{standard_server}; }} }}
}}
"""


@contextlib.contextmanager
def running(program, file, text, directory, addresses):
    """Run a proxy until it answers at all its addresses."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    path = directory / file
    path.write_text(text)
    options = ["-db", "-f"] if program == "haproxy" else ["-e", "stderr", "-c"]
    log = directory / f"{program}.log"
    with open(log, "wb") as said, subprocess.Popen([found, *options, path], stdout=said, stderr=said) as process:
        try:
            for address in addresses:
                wait_for(lambda address=address: listens(address), log.read_text)
            yield
        finally:
            process.terminate()


def listens(address):
    with contextlib.suppress(OSError), Connection(address):
        return True
    return False


def heard(address, lines, *, source=CLIENT, path="/environ"):
    """Ask with these lines of the forwarding fields."""
    with Connection(address, source=source) as one:
        fields = "".join(f"Forwarded: {line}\r\nX-Forwarded-For: {line}\r\n" for line in lines)
        one.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n".encode())
        return one.answer()


def forwarding(standard, **changed):
    headers = ("forwarded",) if standard else ("x-forwarded-for",)
    return Http(trusted_proxies=HERE, trusted_proxy_headers=headers, **changed)


def check(lists, standard):
    for lines in FORGED:
        for address in (lists, standard):
            environ = heard(address, lines).json()
            assert environ["REMOTE_ADDR"] == CLIENT, (lines, address)
            kept = {key: value for key, value in environ.items() if "FORWARDED" in key}
            assert list(kept) == ["HTTP_X_FORWARDED_FOR" if address == lists else "HTTP_FORWARDED"]
            assert PROXY not in kept.popitem()[1]


def test_haproxy_appends_a_line(serving, tmp_path):
    ports = [free_port(), free_port()]
    with serving(framing.app, forwarding(False)) as lists, serving(framing.app, forwarding(True)) as standard:
        sections = [
            SECTION.format(name=name, bind=f"{PROXY}:{port}", options=options, server=f"{PROXY}:{engine.address[1]}")
            for name, port, options, engine in (
                ("lists", ports[0], "option forwardfor", lists),
                ("standard", ports[1], "http-request add-header Forwarded for=%[src];proto=http", standard),
            )
        ]
        addresses = [(PROXY, port) for port in ports]
        with running("haproxy", "haproxy.cfg", HAPROXY.format(sections="".join(sections)), tmp_path, addresses):
            check(*addresses)


def test_nginx_appends_to_the_line(serving, tmp_path):
    ports = [free_port(), free_port()]
    with serving(framing.app, forwarding(False)) as lists, serving(framing.app, forwarding(True)) as standard:
        text = NGINX.format(
            directory=tmp_path,
            lists=ports[0],
            standard=ports[1],
            list_server=f"{PROXY}:{lists.address[1]}",
            standard_server=f"{PROXY}:{standard.address[1]}",
        )
        addresses = [(PROXY, port) for port in ports]
        with running("nginx", "nginx.conf", text, tmp_path, addresses):
            check(*addresses)


@pytest.mark.parametrize(("version", "local"), [("send-proxy", "unknown"), ("send-proxy-v2", PROXY)])
def test_the_proxy_protocol_of_haproxy(serving, tmp_path, version, local):
    """HAProxy announces a client of its UNIX socket as UNKNOWN in version 1 and as LOCAL in version 2; its checks are its own."""
    log = tmp_path / "access.log"
    settings = forwarding(False, proxy_protocol=True, access_log=str(log), access_log_format="%(path)s %(client_ip)s")
    tcp, unix = (PROXY, free_port()), str(tmp_path / "haproxy.sock")
    with serving(framing.app, settings) as engine:
        server = f"{PROXY}:{engine.address[1]} {version} check check-send-proxy inter 100ms"
        options = "option forwardfor\n  option httpchk GET /"
        sections = [
            SECTION.format(name=name, bind=bind, options=options, server=server)
            for name, bind in (("tcp", f"{PROXY}:{tcp[1]}"), ("unix", unix))
        ]
        with running("haproxy", "haproxy.cfg", HAPROXY.format(sections="".join(sections)), tmp_path, [tcp, unix]):
            for lines in FORGED:
                assert heard(tcp, lines).json()["REMOTE_ADDR"] == CLIENT
                environ = heard(unix, lines, source="").json()
                assert (environ["REMOTE_ADDR"], environ.get("HTTP_X_FORWARDED_FOR")) == (local, None), lines
            checked = wait_for(lambda: [line for line in log.read_text().split("\n") if line.startswith("/ ")])
    assert set(checked) == {f"/ {PROXY}"}


def test_nobody_passes_a_filter_that_lets_the_proxy_pass(serving, tmp_path):
    filtered = ipfilter.factory({}, allow=PROXY, allow_unix="true")(framing.app)
    port = free_port()
    with serving(filtered, forwarding(False)) as engine:
        options = "option forwardfor"
        section = SECTION.format(
            name="one", bind=f"{PROXY}:{port}", options=options, server=f"{PROXY}:{engine.address[1]}"
        )
        with running("haproxy", "haproxy.cfg", HAPROXY.format(sections=section), tmp_path, [(PROXY, port)]):
            assert [heard((PROXY, port), lines).status for lines in FORGED] == [403] * len(FORGED)
            assert heard((PROXY, port), [], source=PROXY).status == 200
