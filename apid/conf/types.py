"""The types of options: text in, checked value out. Errors say what is allowed; file and line are added by conf.load.

Own types rather than oslo.config's, because of the errors: those name Python's exceptions, these what an operator may write.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from oslo_config import types

from apid import forwarded, hosts
from apid.conf.settings import Address, Network

MAX_UNIX_PATH = 107
"""Bytes; sun_path of unix(7) holds 108 with its closing NUL."""

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_FIELD = re.compile(r"%\((\w*)\)")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class _Type(types.ConfigType):
    """What is common: how the sample file shows a default."""

    def _formatter(self, value: Any) -> str:
        return spell(value)


class Switch(_Type):
    """On or off, in oslo.config's spellings."""

    def __init__(self) -> None:
        super().__init__("boolean value")

    def __call__(self, value: Any) -> bool:
        """Return the bool of a text, or say which texts there are."""
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text not in types.Boolean.TRUE_VALUES + types.Boolean.FALSE_VALUES:
            raise ValueError("must be true or false (also: yes, no, on, off, 1, 0)")
        return text in types.Boolean.TRUE_VALUES


class Count(_Type):
    """A whole number between two bounds."""

    def __init__(self, lowest: int = 0, highest: int | None = None) -> None:
        super().__init__("integer value")
        self.min = lowest
        self.max = highest

    def __call__(self, value: Any) -> int | None:
        """Return the int, or say the bounds."""
        text = str(value).strip()
        number = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if number < self.min or (self.max is not None and number > self.max):
            bounds = f"from {self.min} to {self.max}" if self.max is not None else f"of at least {self.min}"
            raise ValueError(f"must be a whole number {bounds}")
        return number


class Workers(Count):
    """A whole number; `auto`, as Swift spells it, is the default."""

    def __call__(self, value: Any) -> int | None:
        """Return the number, None for `auto`."""
        if isinstance(value, str) and value.strip().lower() == "auto":
            return None
        try:
            return super().__call__(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None


class Seconds(_Type):
    """A time; fractions are allowed, negative times, infinity and NaN are not."""

    def __init__(self) -> None:
        super().__init__("seconds")
        self.min = 0

    def __call__(self, value: Any) -> float:
        """Return the seconds as float."""
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text):
            raise ValueError("must be a number of seconds, 0 or more")
        return float(text)


class Size(_Type):
    """A number of bytes, with K, M or G for the powers of 1024."""

    def __init__(self, lowest: int = 0) -> None:
        super().__init__("size in bytes")
        self.min = lowest

    def __call__(self, value: Any) -> int:
        """Return the bytes as int."""
        match = _SIZE.fullmatch(str(value).strip())
        size = int(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else -1
        if size < self.min:
            raise ValueError(f"must be a size in bytes, {self.min} or more; K, M and G (powers of 1024) may follow")
        return size


class Umask(_Type):
    """A file mode mask in octal."""

    def __init__(self) -> None:
        super().__init__("octal number")

    def __call__(self, value: Any) -> int:
        """Return the mask as int."""
        text = str(value).strip()
        if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text.removeprefix("0o"), 8) > 0o777:
            raise ValueError("must be an octal number from 0000 to 0777, for example 0027")
        return int(text.removeprefix("0o"), 8)


class Text(_Type):
    """A text that is not empty."""

    def __init__(self, type_name: str = "string value") -> None:
        super().__init__(type_name)

    def __call__(self, value: Any) -> Any:
        """Return the text without the space around it."""
        text = str(value).strip()
        if not text:
            raise ValueError("must not be empty")
        if "\0" in text:
            raise ValueError("must not hold a NUL character")
        return text


class LineFormat(Text):
    """A format of %(name)s fields, or one of a few words that stand for a format.

    Args:
        words: such as `json`.
        texts: names of fields that hold text. numbers: of those that hold a number, and take %d and %f as well.
    """

    def __init__(self, words: tuple[str, ...], texts: tuple[str, ...], numbers: tuple[str, ...]) -> None:
        super().__init__()
        self._words = words
        self._sample = dict.fromkeys(texts, "") | dict.fromkeys(numbers, 1)

    def __call__(self, value: Any) -> str:
        """Return the format, tried on a line."""
        text: str = super().__call__(value)
        if text in self._words:
            return text
        bare = text.replace("%%", "")
        names = _FIELD.findall(bare)
        unknown = [name for name in names if name not in self._sample]
        if unknown:
            raise ValueError(f"there is no field {unknown[0]}; there are {', '.join(sorted(self._sample))}")
        if "%" in _FIELD.sub("", bare):
            raise ValueError("a % that begins no field such as %(client_ip)s is written %%")
        if not names:
            raise ValueError("must hold fields such as %(client_ip)s, or be " + " or ".join(self._words))
        try:
            _ = text % self._sample
        except (TypeError, ValueError) as error:
            raise ValueError(f"a conversion does not fit its field: {error}") from None
        return text


class Dotted(Text):
    """A function by the names of its module and its own: `package.module:name`, or `package.module.name`."""

    def __init__(self) -> None:
        super().__init__("module:name")

    def __call__(self, value: Any) -> str:
        """Return `module:name`."""
        text: str = super().__call__(value)
        module, colon, name = text.partition(":") if ":" in text else text.rpartition(".")
        words = [*module.split("."), *name.split(".")]
        if not colon or not all(word.isidentifier() for word in words):
            raise ValueError("must name a function as module:name")
        return f"{module}:{name}"


class FilePath(Text):
    """A path; conf.values makes it absolute, for only it knows which file set it."""

    def __init__(self) -> None:
        super().__init__("path")


class Host(Text):
    """An IPv4 or IPv6 address, or a host name."""

    def __init__(self) -> None:
        super().__init__("host address value")

    def __call__(self, value: Any) -> str:
        """Return the host; the brackets of `[::1]` are taken off."""
        text: str = super().__call__(value)
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        check_host(text)
        return text


class Bind(Text):
    """One address to listen on."""

    def __init__(self) -> None:
        super().__init__("address")

    def __call__(self, value: Any) -> Address:
        """Return the `Address`; the path of a UNIX socket may still be relative."""
        return parse_address(super().__call__(value))


class Networks(_Type):
    """Addresses and networks, separated by commas."""

    def __init__(self) -> None:
        super().__init__("list of networks")

    def __call__(self, value: Any) -> tuple[Network, ...]:
        """Return the networks in the order given."""
        return tuple(_network(item) for item in _items(value))


class ProxyHeaders(_Type):
    """Names of the fields in which proxies tell of their clients, separated by commas."""

    def __init__(self) -> None:
        super().__init__("list of header names")

    def __call__(self, value: Any) -> tuple[str, ...]:
        """Return the names in lower case."""
        return forwarded.check_headers(_items(value))


class Hosts(_Type):
    """Hosts that are answered for, separated by commas."""

    def __init__(self) -> None:
        super().__init__("list of hosts")

    def __call__(self, value: Any) -> tuple[str, ...]:
        """Return them as `AllowedHosts` takes them."""
        return tuple(hosts.parse_allowed(item) for item in _items(value))


class Names(_Type):
    """Names of sections, separated by commas."""

    def __init__(self) -> None:
        super().__init__("list of names")

    def __call__(self, value: Any) -> tuple[str, ...]:
        """Return the names; they are lower case, for oslo.config does not tell the cases of a section apart."""
        names = _items(value)
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name: use lower-case letters, digits, - and _")
            if name == "main":
                raise ValueError("the name main is taken by the listener of [DEFAULT]")
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return names


class Choice(_Type):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        super().__init__("word")
        self.words = words

    def __call__(self, value: Any) -> str:
        """Return the word."""
        word = str(value).strip()
        if word not in self.words:
            raise ValueError("must be " + " or ".join(self.words))
        return word


class Choices(_Type):
    """Some of a few words, separated by commas."""

    def __init__(self, *words: str) -> None:
        super().__init__("list of words")
        self.words = words

    def __call__(self, value: Any) -> tuple[str, ...]:
        """Return the words in the order given."""
        chosen = _items(value)
        if not chosen or any(word not in self.words for word in chosen):
            raise ValueError("must be one or more, separated by commas, of: " + ", ".join(self.words))
        return chosen


def parse_address(text: str) -> Address:
    """Return the address that one value of `bind` means.

    Raises:
        ValueError: it is none; the text says how an address is written.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest or rest.endswith("/"):
            raise ValueError("unix: must be followed by the path of a socket")
        check_unix_path(rest)
        return Address("unix", path=rest)
    if kind == "fd":
        if not rest or ":" in rest:
            raise ValueError("fd: must be followed by the name of a socket unit's descriptor (LISTEN_FDNAMES)")
        return Address("fd", name=rest)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError("must be host:port, [IPv6 address]:port, unix:/path or fd:name")
    if not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError(f"the port {port!r} must be a whole number from 0 to 65535")
    if bracketed:
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"{host!r} is no IPv6 address; brackets are for those")
    check_host(host)
    return Address("tcp", host=host, port=int(port))


def check_host(text: str) -> None:
    """Raise ValueError where the text is neither an IP address nor a host name (RFC 1123)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        numeric = all(label.isdigit() for label in labels)
        if len(text) > 253 or numeric or not all(_HOST_LABEL.fullmatch(label) for label in labels):
            raise ValueError(f"{text!r} is neither an IP address nor a host name") from None


def check_unix_path(path: str) -> None:
    """Raise ValueError where a path is too long for a UNIX socket."""
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ValueError(f"the path of a UNIX socket must not be longer than {MAX_UNIX_PATH} bytes: {path}")


def _network(text: str) -> Network:
    try:
        return hosts.network_of(text, strict=True)
    except ValueError:
        pass
    try:
        wanted = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor a network such as 10.0.0.0/8") from None
    raise ValueError(f"{text!r} has bits set beyond its prefix; did you mean {wanted}?")


def spell(value: object) -> str:
    """Return a converted value as a file spells it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(spell(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def _items(value: Any) -> tuple[str, ...]:
    if isinstance(value, tuple):  # a default
        return value
    return tuple(item.strip() for item in str(value).split(",") if item.strip())
