"""Who holds a socket: tables and descriptors of /proc, which change while they are read."""

from __future__ import annotations

import os
import re
import socket

import pytest

from apid.conf.settings import Address
from apid.errors import BindError
from apid.posix import occupants, sockets


def listening(host, *, v6only):
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((host, 0))
    sock.listen()
    return sock


def inode(sock):
    return os.fstat(sock.fileno()).st_ino


@pytest.mark.parametrize(
    ("bound", "wanted", "in_the_way"),
    [
        ("::", "127.0.0.1", True),
        ("::", "0.0.0.0", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "0.0.0.0", True),
        ("::ffff:127.0.0.1", "127.0.0.2", False),
    ],
)
def test_a_socket_of_both_families_is_in_the_way_of_an_ipv4_address(bound, wanted, in_the_way):
    """It stands in the table of IPv6 only. It does not listen at that address, but no other socket can."""
    with listening(bound, v6only=False) as sock:
        port = sock.getsockname()[1]
        assert (inode(sock) in occupants.of_tcp(wanted, port, overlapping=True)) == in_the_way
        assert inode(sock) not in occupants.of_tcp("127.0.0.2", port)
        if in_the_way:
            with pytest.raises(BindError, match=re.escape(f"{wanted}:{port}: Address already in use") + "$"):
                sockets.probe(Address("tcp", host=wanted, port=port))


def test_a_socket_of_ipv6_is_not_in_the_way_of_an_ipv4_address():
    with listening("::1", v6only=True) as sock:
        port = sock.getsockname()[1]
        assert occupants.of_tcp("127.0.0.1", port, overlapping=True) == set()
        assert occupants.of_tcp("0.0.0.0", port, overlapping=True) == set()
        assert occupants.of_tcp("::1", port) == {inode(sock)}


def test_a_descriptor_that_closes_while_it_is_looked_at_hides_no_other_one():
    """The descriptor with which a process lists its own is always such a one; its number is the lowest that is free."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        high = os.dup2(sock.fileno(), 900)
        number = inode(sock)
        sock.close()
        try:
            assert number in occupants.held(os.getpid())
            assert occupants.processes({number}) == {os.getpid()}
        finally:
            os.close(high)


def test_no_socket_is_held_by_no_process():
    assert occupants.processes(set()) == set()
