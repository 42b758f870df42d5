"""The frozen values that the rest of the code sees; made by `apid.conf.load`, never changed afterwards.

An *option* is a declaration (conf/ has one module a group); a *setting* is the value that an operator's files, environment
and command line gave it, converted and checked. Times are seconds as float, sizes are bytes as int, 0 means "off" where the
option's help says so.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Literal

from apid.forwarded import DEFAULT_HEADERS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """One thing to listen on.

    Attributes:
        kind: `tcp` (host, port), `unix` (path) or `fd` (name: of a descriptor handed over by systemd, LISTEN_FDNAMES).
    """

    kind: Literal["tcp", "unix", "fd"]
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        """The spelling that the option `bind` takes."""
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "fd":
            return f"fd:{self.name}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """`[ssl]`, or the ssl options of one listener. Paths are absolute; the files are read by workers only.

    Attributes:
        where: by option the beginning of an error: `FILE:LINE: [GROUP] OPTION = VALUE`.
    """

    cert_file: str
    key_file: str
    ca_file: str | None = None
    versions: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: str | None = None
    crl_file: str | None = None
    where: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Paste:
    """Which pipeline of which file. `app_name` already carries the flavor (`main-keystone`).

    Attributes:
        where: the beginning of an error about the file: `FILE:LINE: [GROUP] config_file = VALUE`.
    """

    config_file: str
    app_name: str
    where: str = dataclasses.field(default="[paste_deploy] config_file", compare=False)


POOL_SIZES = {"eventlet": 1000, "threads": 32}
"""The engines, and how many requests a worker runs at the same time by default."""


@dataclasses.dataclass(frozen=True, slots=True)
class Http:
    """What the HTTP engine needs to know."""

    engine: str = "eventlet"
    pool_size: int = 1000
    keepalive: bool = True
    keepalive_timeout: float = 75.0
    header_timeout: float = 10.0
    client_socket_timeout: float = 60.0
    request_timeout: float = 0.0
    max_request_line: int = 8190
    max_header_line: int = 16384
    max_headers: int = 200
    max_header_size: int = 65536
    trusted_proxies: tuple[Network, ...] = ()
    trusted_proxy_headers: tuple[str, ...] = DEFAULT_HEADERS
    allowed_hosts: tuple[str, ...] = ()
    proxy_protocol: bool = False
    eventlet_headers_raw: bool = False
    access_log: str = "off"
    """A path, `-` (standard output) or `off`."""
    access_log_format: str = ""
    """Empty: the default of apid.server.access_log; `json`: one JSON object a line."""
    where: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    """By option the beginning of an error, for those that only workers can check: the engine's and the access log's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """A named set of addresses that serve one pipeline; `main` is the one of [DEFAULT].

    Attributes:
        http: what holds for its connections: [DEFAULT]'s, but for what the listener's own section says.
    """

    name: str
    addresses: tuple[Address, ...]
    paste: Paste
    tls: Tls | None = None
    http: Http = Http()


@dataclasses.dataclass(frozen=True, slots=True)
class Log:
    """The daemon's own log; names as in oslo.log."""

    debug: bool = False
    log_file: str | None = None
    use_json: bool = False
    use_journal: bool = False
    log_config_append: str | None = None
    log_config: str = ""
    """What the file log_config_append held: workers need not be able to read it."""


MOST_WORKERS = 200
"""Two generations of them, and what still drains, fit into the scoreboard."""


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """What the parent needs to know."""

    workers: int
    backlog: int = 4096
    tcp_keepidle: int = 600
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    pid_file: str | None = None
    control_socket: str | None = None
    startup_timeout: float = 60.0
    worker_timeout: float = 30.0
    graceful_shutdown_timeout: float = 60.0
    drain_delay: float = 0.0
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_worker_rss: int = 0
    preload: str = "auto"


@dataclasses.dataclass(frozen=True, slots=True)
class Hooks:
    """Functions of the application that are called with (slot, generation, pid), as `module:name`; empty: none.

    Attributes:
        where: by option the beginning of an error: `FILE:LINE: [GROUP] OPTION = VALUE`.
    """

    after_load: str = ""
    after_fork: str = ""
    before_exit: str = ""
    where: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything that one generation of workers runs with."""

    daemon: Daemon
    http: Http
    log: Log
    listeners: tuple[Listener, ...]
    files: tuple[str, ...] = ()
    """The configuration files that were read, in their order; empty: defaults only."""
    sources: tuple[tuple[str, str, str], ...] = ()
    """(`group.option` or `option`, value as text with secrets masked, where it comes from), for --check-config."""
    database: str = dataclasses.field(default="", repr=False)
    """[database] connection, which workers put into the environment; may hold a password."""
    directories: tuple[str, ...] = ()
    """Those of --config-dir."""
    hooks: Hooks = Hooks()
