"""Listening sockets: what is bound, what is adopted, what is refused and what is left alone."""

from __future__ import annotations

import os
import socket

import pytest

from apid.conf.settings import Address, Daemon, Http, Listener, Log, Paste, Settings
from apid.errors import BindError
from apid.parent.listeners import Listeners, stored_name
from apid.posix import sockets


def bind(address, inherited=None):
    return sockets.bind(address, backlog=16, tcp_keepidle=600, inherited=inherited if inherited is not None else {})


def tcp(host="127.0.0.1", port=0):
    return Address("tcp", host=host, port=port)


def test_a_tcp_socket_listens_and_has_the_options_that_accepted_ones_inherit():
    with bind(tcp()) as sock, socket.create_connection(sock.getsockname()) as client:
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 600
        assert not os.get_inheritable(sock.fileno())
        assert sockets.spell(sock) == f"127.0.0.1:{client.getpeername()[1]}"


def test_it_does_not_block_and_does_not_share_its_port():
    with bind(tcp()) as sock:
        assert sock.getblocking() is False
        port = sock.getsockname()[1]
        with pytest.raises(BindError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            bind(tcp(port=port))


def test_ipv6_is_spelled_with_brackets():
    with bind(tcp("::1")) as sock:
        assert sockets.spell(sock).startswith("[::1]:")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "x" * 300, "a b"])
def test_a_name_that_is_no_address_is_named(host):
    with pytest.raises(BindError, match="is no address") as caught:
        bind(tcp(host, 80))
    assert host in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(BindError, match="Cannot assign requested address"):
        bind(tcp("192.0.2.1", 8080))


def unix(path):
    return Address("unix", path=str(path))


def test_a_stale_file_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "sock"
    bind(unix(path)).close()
    assert path.exists()
    with bind(unix(path)) as live:
        assert sockets.spell(live) == f"unix:{path}"
        with pytest.raises(BindError, match="another process listens there"):
            bind(unix(path))
        assert path.exists()


def test_a_live_one_with_a_full_queue_is_still_alive(tmp_path):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        waiting = []
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                one.setblocking(False)
                waiting.append(one)
                try:
                    one.connect(str(path))
                except BlockingIOError:
                    break
            with pytest.raises(BindError, match="another process listens there"):
                bind(unix(path))
        finally:
            for one in waiting:
                one.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "data"
    path.write_text("dear")
    with pytest.raises(BindError, match="exists and is not a socket"):
        bind(unix(path))
    assert path.read_text() == "dear"


def test_a_directory_that_is_not_there_and_a_path_too_long(tmp_path):
    with pytest.raises(BindError, match="No such file or directory"):
        bind(unix(tmp_path / "none" / "sock"))
    with pytest.raises(BindError, match="cannot listen on unix:"):
        bind(unix(tmp_path / ("x" * 200)))


def test_a_handed_over_socket_is_adopted_by_its_name():
    with socket.create_server(("127.0.0.1", 0)) as given:
        inherited = {"web": given}
        assert bind(Address("fd", name="web"), inherited) is given
        assert given.getblocking() is False
        assert inherited == {}, "it is a listener's now, and no leftover"


def test_a_name_that_was_not_handed_over_and_a_socket_that_does_not_listen():
    with socket.socket() as plain:
        with pytest.raises(BindError, match="LISTEN_FDNAMES: other, web"):
            bind(Address("fd", name="api"), {"web": plain, "other": plain})
        with pytest.raises(BindError, match="not a listening socket"):
            bind(Address("fd", name="web"), {"web": plain})


def settings(**listeners):
    made = tuple(Listener(name, tuple(addresses), Paste("/x.ini", "main")) for name, addresses in listeners.items())
    return Settings(Daemon(workers=1), Http(), Log(), made)


def test_listeners_bind_all_or_nothing(tmp_path):
    listeners = Listeners()
    with bind(tcp()) as taken:
        wanted = settings(main=[unix(tmp_path / "a")], admin=[tcp(port=taken.getsockname()[1])])
        with pytest.raises(BindError):
            listeners.bind(wanted)
    assert listeners.keys() == []
    assert not (tmp_path / "a").exists()


def test_listeners_keep_what_is_wanted_and_close_the_rest(tmp_path):
    listeners = Listeners()
    first = settings(main=[tcp(), unix(tmp_path / "a")], admin=[tcp()])
    assert len(listeners.bind(first)) == 3, "port 0 of two listeners are two sockets"
    ports = {sock.getsockname()[1] for _, sock in listeners.items() if sock.family == socket.AF_INET}
    assert len(ports) == 2
    second = settings(main=[tcp()])
    assert listeners.bind(second) == [], "the same address is the same socket"
    gone = listeners.keep([second])
    assert sorted(gone) == sorted({*map(str, [unix(tmp_path / "a")]), "admin/127.0.0.1:0"})
    assert not (tmp_path / "a").exists()
    assert [one.name for one in listeners.only_bound(first).listeners] == []
    assert [one.name for one in listeners.only_bound(second).listeners] == ["main"]
    listeners.close()
    assert listeners.keys() == []


def test_a_stored_name_is_one_that_systemd_takes():
    for key in ["main/127.0.0.1:0", "[::1]:8080", "unix:/run/apid/ä b.sock", "x" * 400]:
        name = stored_name(key)
        assert len(name.encode()) <= 255
        assert ":" not in name
        assert name.isprintable()
    assert stored_name("[::1]:80") != stored_name("[::1]:81")
