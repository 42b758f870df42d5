"""Hosts as requests name them: what is one, which of two names are the same, and for which ones a server answers.

The ground of both towers: standard library only, imported by daemon and toolkit, imports nothing of either.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable

OWN_ADDRESS = "own_address"
"""In a list of allowed hosts: the address on which the connection came in. The underscore keeps it from being a name."""

MAPPED = "::ffff:"
"""What an IPv4-mapped address begins with, as inet_ntop(3) writes it."""

_MAPPED_BITS = 96

_LONGEST = 262
"""Octets of a name (RFC 1035 §2.3.4), brackets or a final dot, and a port; what is longer is allowed by no list."""

_REG_NAME = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_AUTHORITY = re.compile(r"(?:(?P<name>[^\[\]:@]+)|\[(?P<literal>[^\[\]]+)\])(?::(?P<port>[0-9]{0,5}))?")
_FUTURE = re.compile(r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+")
_LABELS = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)


def is_authority(value: str) -> bool:
    """Whether a value is `uri-host [":" port]` with a host that is not empty (RFC 9110 §7.2, §4.2.1; RFC 3986 §3.2).

    User information is not allowed: RFC 9110 §4.2.4 has it treated as an error in what comes from others.
    """
    found = _AUTHORITY.fullmatch(value)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    if found["name"] is not None:
        return _REG_NAME.fullmatch(found["name"]) is not None
    return is_ip_literal(found["literal"])


def is_ip_literal(text: str) -> bool:
    """Whether the text between brackets is an IPv6 address without a zone, or RFC 3986's IPvFuture."""
    if _FUTURE.fullmatch(text):
        return True
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def split(authority: str) -> tuple[str, str]:
    """Host and port of an authority; an IPv6 address keeps its brackets, a port that is not there is empty."""
    name, colon, port = authority.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (authority, "")


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, or None. A zone is dropped, and an IPv4-mapped address (RFC 4291 §2.5.5.2) is the IPv4 one."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv4Address):
        return found
    return found.ipv4_mapped or ipaddress.IPv6Address(int(found))


def network_of(text: str, *, strict: bool) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network, or single address, that a text is; one of IPv4-mapped addresses is the IPv4 one, as in `address_of`.

    Args:
        text: such as `10.0.0.0/8` or `::1`.
        strict: whether bits beyond the prefix are an error.

    Raises:
        ValueError: it is none.
    """
    found = ipaddress.ip_network(text, strict=strict)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED_BITS))
    return found


def one_spelling(address: str) -> str:
    """The spelling of a peer's address that serves as a key everywhere: IPv4 for what a dual-stack socket reports of IPv4."""
    if not address.startswith(MAPPED):
        return address
    found = address_of(address)
    return address if found is None else str(found)


def _canonical(name: str) -> str:
    """One spelling for all of a host's: lower case, no brackets, no final dot, addresses as `ipaddress` writes them."""
    name = name.removesuffix(".").lower()
    address = address_of(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    return name if address is None else str(address)


def parse_allowed(text: str) -> str:
    """Read one entry of a list of allowed hosts.

    Args:
        text: a name, an address, `.example.org` (the domain and all below it), `*.example.org` (all below it), `own_address`
            or `*`.

    Returns:
        The entry in its one spelling.

    Raises:
        ValueError: it is none of these.
    """
    if text in ("*", OWN_ADDRESS):
        return text
    head = "*." if text.startswith("*.") else "." if text.startswith(".") else ""
    name = _canonical(text[len(head) :])
    if address_of(name) is not None and not head:
        return name
    if not _LABELS.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise ValueError(
            f"{text!r} is no host: want a name, an address, .example.org, *.example.org, {OWN_ADDRESS} or *, without a port"
        )
    return head + name


class AllowedHosts:
    """The hosts that a server answers for: against DNS rebinding, where a page in a browser reaches it under a name of its own.

    Args:
        entries: as `parse_allowed` returns them; none at all allows every host.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entries)
        # Hosts are few and come again; the bounds keep forged ones from growing it.
        self._known = functools.lru_cache(maxsize=256)(self._contains)

    def __bool__(self) -> bool:
        """Whether anything is refused; if not, `allows` need not be called."""
        return bool(self._entries) and "*" not in self._entries

    def allows(self, host: str | None, own: str) -> bool:
        """Whether a request is for one of them.

        Args:
            host: the value of Host, or what stands in its place. None is allowed: HTTP/1.0 need not name a host, health checks of
                balancers do not, and every browser does.
            own: the address on which the connection came in; empty for a UNIX socket.
        """
        return host is None or (len(host) <= _LONGEST and self._known(host, own))

    def _contains(self, host: str, own: str) -> bool:
        if not self:
            return True
        name = _canonical(split(host)[0])
        if name in self._entries:
            return name != OWN_ADDRESS
        address = address_of(name)
        if address is not None:
            return OWN_ADDRESS in self._entries and address == address_of(own)
        above = name
        while above:
            if f".{above}" in self._entries or (above != name and f"*.{above}" in self._entries):
                return True
            above = above.partition(".")[2]
        return False
