"""Listening sockets: what is bound, what is adopted, what is refused and what is left alone."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import pytest

from apid.conf.settings import Address, Daemon, Http, Listener, Log, Paste, Settings
from apid.errors import BindError
from apid.parent.listeners import Listeners, keys_of, serving, stored_name
from apid.posix import accept_queue, processes, sockets


def bind(address, inherited=None):
    return sockets.bind(address, backlog=16, tcp_keepidle=600, inherited=inherited if inherited is not None else {})


@contextlib.contextmanager
def bound(path):
    """A socket that listens at `path`; it is closed and its files stay, as after a kill -9."""
    sock, file = sockets.bind_unix(unix(path), backlog=16, umask=None)
    with sock:
        yield sock
    file.lock.close()


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


@pytest.mark.parametrize("ended", [False, True])
def test_a_port_that_the_kernel_lent_to_a_client_is_explained(ended):
    """A fresh port of the ephemeral range: open, or in TIME_WAIT for a minute because the client closed first."""
    with bind(tcp()) as listening, socket.create_connection(listening.getsockname()) as client:
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            port = client.getsockname()[1]
            if ended:
                client.close()
                assert accepted.recv(1) == b""
        with pytest.raises(
            BindError, match=r"Address already in use \(no process listens there: .*ip_local_reserved_ports"
        ):
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
    with bound(path):
        pass
    assert path.exists()
    with bound(path) as live:
        assert sockets.spell(live) == f"unix:{path}"
        with pytest.raises(BindError, match="another process listens there"):
            sockets.bind_unix(unix(path), backlog=16, umask=None)
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
                sockets.bind_unix(unix(path), backlog=16, umask=None)
            assert not (tmp_path / "sock.lock").exists()
        finally:
            for one in waiting:
                one.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "data"
    path.write_text("dear")
    with pytest.raises(BindError, match="exists and is not a socket"):
        sockets.bind_unix(unix(path), backlog=16, umask=None)
    assert path.read_text() == "dear"
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_directory_that_is_not_there_and_a_path_too_long(tmp_path):
    with pytest.raises(BindError, match="No such file or directory"):
        sockets.bind_unix(unix(tmp_path / "none" / "sock"), backlog=16, umask=None)
    with pytest.raises(BindError, match=r"cannot listen on unix:.*path too long"):
        sockets.bind_unix(unix(tmp_path / ("x" * 200)), backlog=16, umask=None)
    assert list(tmp_path.iterdir()) == []


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


@pytest.fixture
def listeners():
    made = Listeners()
    yield made
    made.close()


def test_listeners_bind_all_or_nothing(listeners, tmp_path):
    with bind(tcp()) as taken:
        wanted = settings(main=[unix(tmp_path / "a")], admin=[tcp(port=taken.getsockname()[1])])
        with pytest.raises(BindError):
            listeners.bind(wanted)
    assert listeners.items() == []
    assert not (tmp_path / "a").exists()


def test_listeners_keep_what_is_wanted_and_close_the_rest(listeners, tmp_path):
    first = settings(main=[tcp(), unix(tmp_path / "a")], admin=[tcp()])
    places, new = listeners.bind(first)
    assert len(new) == 3, "port 0 of two listeners are two sockets"
    ports = {one.sock.getsockname()[1] for _, one in listeners.items() if one.sock.family == socket.AF_INET}
    assert len(ports) == 2
    second = settings(main=[tcp()])
    kept, new = listeners.bind(second)
    assert new == [], "the same address is the same socket"
    assert [one.name for one in serving(first, places).listeners] == ["main", "admin"]
    assert [one.name for one in serving(first, kept).listeners] == ["main"]
    gone = listeners.keep(keys_of(kept))
    assert sorted(gone) == sorted({*map(str, [unix(tmp_path / "a")]), "admin/127.0.0.1:0"})
    assert not (tmp_path / "a").exists()
    listeners.close()
    assert listeners.items() == []


def test_port_0_given_twice_is_two_sockets_that_stay(listeners):
    first, _ = listeners.bind(settings(main=[tcp(), tcp()], admin=[tcp()]))
    assert len(set(first["main"].values())) == 2
    more, new = listeners.bind(settings(main=[tcp(), tcp(), tcp()], admin=[tcp()]))
    assert len(new) == 1
    assert more["main"].items() > first["main"].items()
    assert more["admin"] == first["admin"]
    fewer, new = listeners.bind(settings(main=[tcp()]))
    assert new == []
    assert list(fewer["main"].values()) == list(first["main"].values())[:1]


def test_a_host_name_stands_for_all_its_addresses(listeners, monkeypatch):
    """At one port, also when that is 0; an address of IPv6 that this machine does not have is passed over."""
    resolves_to(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1", "2001:db8::1")
    places, _ = listeners.bind(settings(main=[tcp("api.test"), tcp("api.test")]))
    hosts = [address.rpartition(":")[::2] for address in places["main"].values()]
    assert [host for host, _ in hosts] == ["127.0.0.1", "127.0.0.2"] * 2
    assert hosts[0][1] == hosts[1][1] != hosts[2][1] == hosts[3][1]
    fixed, _ = listeners.bind(settings(main=[tcp("api.test", int(free_port()))]))
    assert len(fixed["main"]) == 2


def test_the_port_of_the_first_address_may_be_taken_at_the_second(listeners, monkeypatch):
    resolves_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    first, _ = listeners.bind(settings(main=[tcp("127.0.0.1")]))
    port = int(next(iter(first["main"].values())).rpartition(":")[2])
    with bind(tcp("127.0.0.2", port)):
        places, _ = listeners.bind(settings(main=[tcp("api.test")]))
    assert len(places["main"]) == 2


@pytest.mark.parametrize("hosts", [["192.0.2.1", "127.0.0.1"], ["2001:db8::1"], ["2001:db8::1", "2001:db8::2"]])
def test_an_address_of_a_name_that_cannot_be_had_is_refused(listeners, monkeypatch, hosts):
    """IPv4, or nothing that is left: then the name is wrong, or the machine."""
    resolves_to(monkeypatch, *hosts)
    with pytest.raises(BindError, match="Cannot assign requested address"):
        listeners.bind(settings(main=[tcp("api.test")]))
    assert listeners.items() == []


def test_a_name_and_its_address_are_one_socket(listeners, monkeypatch):
    resolves_to(monkeypatch, "127.0.0.1")
    port = free_port()
    by_name, _ = listeners.bind(settings(main=[tcp("api.test", port)]))
    by_number, new = listeners.bind(settings(main=[tcp("127.0.0.1", port)]))
    assert new == []
    assert by_name == by_number
    with pytest.raises(BindError, match=rf"cannot listen on 127.0.0.1:{port}: .* given twice"):
        listeners.bind(settings(main=[tcp("api.test", port)], admin=[tcp("127.0.0.1", port)]))


def test_a_name_server_that_is_away_fails_no_reload(listeners, monkeypatch, caplog):
    resolves_to(monkeypatch, "127.0.0.1")
    wanted = settings(main=[tcp("api.test", free_port())])
    before, _ = listeners.bind(wanted)

    def away(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    after, new = listeners.bind(wanted)
    assert (after, new) == (before, [])
    assert "keeps the addresses that it had" in caplog.text
    with pytest.raises(BindError, match=r"'other.test' is no address \(.*Temporary failure"):
        listeners.bind(settings(main=[tcp("other.test", 80)]))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def resolves_to(monkeypatch, *hosts):
    """Let the name api.test have these addresses; everything else resolves as ever."""
    real = socket.getaddrinfo

    def resolve(host, *args, **more):
        if host != "api.test":
            return real(host, *args, **more)
        return [found for one in hosts for found in real(one, *args, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_file_that_was_removed_is_bound_again(listeners, tmp_path):
    wanted = settings(main=[unix(tmp_path / "a")])
    first, _ = listeners.bind(wanted)
    (tmp_path / "a").unlink()
    second, new = listeners.bind(wanted)
    assert list(second["main"]) == new != list(first["main"])
    (sock,) = listeners.of(second["main"])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a"))
        sock.accept()[0].close()
    listeners.close(new)
    assert not (tmp_path / "a").exists(), "as it was, for a change that fails"
    assert listeners.of(first["main"])


def test_who_waits_in_the_queue_of_a_removed_file_is_served_first(listeners, tmp_path):
    wanted = settings(main=[unix(tmp_path / "a")])
    listeners.bind(wanted)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a"))
        (tmp_path / "a").unlink()
        second, _ = listeners.bind(wanted)
        new, old = listeners.of(second["main"])
        listeners.keep(keys_of(second))
        assert [name for name, _ in listeners.stored()] == [stored_name(f"unix:{tmp_path / 'a'}")]
        old.accept()[0].close()
    third, _ = listeners.bind(wanted)
    assert listeners.of(third["main"]) == [new], "nobody can come to the old one any more"
    assert len(listeners.keep(keys_of(third))) == 1
    assert (tmp_path / "a").exists(), "it is the other socket's"


def test_a_file_that_another_daemon_has_taken_is_left_to_it(listeners, tmp_path):
    wanted = settings(main=[unix(tmp_path / "a")])
    listeners.bind(wanted)
    (tmp_path / "a").unlink()
    with bound(tmp_path / "a") as other:
        with pytest.raises(BindError, match="another process listens there"):
            listeners.bind(wanted)
        listeners.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "a"))
            other.accept()[0].close()


def test_a_configuration_changes_sockets_that_are_bound_already(listeners, tmp_path):
    wanted = settings(main=[tcp(), unix(tmp_path / "a")])
    places, _ = listeners.bind(wanted)
    sock, _ = listeners.of(places["main"])
    listeners.tune(places, Daemon(workers=1, backlog=7, tcp_keepidle=33, umask=0o117))
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
    assert accept_queue.look(sock).limit == 7
    assert stat.filemode((tmp_path / "a").stat().st_mode) == "srw-rw----"
    listeners.tune(places, Daemon(workers=1, backlog=9, tcp_keepidle=0))
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accept_queue.look(sock).limit == 9
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o777 & ~mask


def test_what_the_service_manager_has_kept_is_locked_while_it_is_used(tmp_path):
    """At a restart its file stays; the lock goes with the process and comes back with the next one."""
    path = tmp_path / "a"
    wanted, name = settings(main=[unix(path)]), stored_name(f"unix:{path}")
    first = Listeners(kept=True)
    first.bind(wanted)
    ((_, sock),) = first.stored()
    kept = sock.dup()
    first.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]

    def child():
        second = Listeners({name: kept}, kept=True)
        second.bind(wanted)
        os.write(told, b"x")
        os.read(end, 1)
        second.close()
        os._exit(0)

    (ready, told), (end, over) = os.pipe(), os.pipe()
    pid = processes.fork(child)
    os.read(ready, 1)
    third = Listeners({name: kept}, kept=True)
    with pytest.raises(BindError, match=f"another daemon has it: process {pid} holds {path}.lock"):
        third.bind(wanted)
    assert kept.fileno() < 0, "what cannot be used is closed"
    os.write(over, b"x")
    assert processes.wait(pid) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    for fd in (ready, told, end, over):
        os.close(fd)


def test_a_stored_name_is_one_that_systemd_takes():
    for key in ["main/127.0.0.1:0", "[::1]:8080", "unix:/run/apid/ä b.sock", "x" * 400]:
        name = stored_name(key)
        assert len(name.encode()) <= 255
        assert ":" not in name
        assert name.isprintable()
    assert stored_name("[::1]:80") != stored_name("[::1]:81")


def test_nobody_can_send_descriptors_to_a_unix_listener(tmp_path):
    with bound(tmp_path / "sock") as sock, socket.socket(socket.AF_UNIX) as client:
        if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 16):
            pytest.skip("this kernel has no SO_PASSRIGHTS")
        client.connect(str(tmp_path / "sock"))
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"before the accept"], [client.fileno()])
        accepted, _ = sock.accept()
        with accepted, pytest.raises(PermissionError):
            socket.send_fds(client, [b"after it"], [client.fileno()])
