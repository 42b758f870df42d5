"""[DEFAULT], second part: settings of the HTTP engine: limits, times, proxies and the access log."""

from __future__ import annotations

from oslo_config import cfg

from apid import forwarded
from apid.conf.declare import option
from apid.conf.settings import POOL_SIZES
from apid.conf.types import Choice, Count, Hosts, LineFormat, Networks, ProxyHeaders, Seconds, Size, Switch, Text

ACCESS_LOG_TEXTS = (
    "client_ip", "client_port", "forwarded_ip", "date_time", "request_line", "method", "path", "query", "protocol", "host",
    "referer", "user_agent", "request_id", "trace_id", "user", "project", "listener", "outcome",
)  # fmt: skip
ACCESS_LOG_NUMBERS = ("status_code", "body_length", "bytes_in", "bytes_out", "wall_seconds", "pid")
"""What apid.server.access_log can tell; a test holds the two together."""

OPTS: list[cfg.Opt] = [
    option(
        "engine",
        Choice(*POOL_SIZES),
        "eventlet",
        "What runs requests: green threads (eventlet), for applications that are written for it or are not "
        "thread-safe, or native threads (threads), for all others; see docs/ENGINES.md.",
    ),
    option(
        "pool_size",
        Count(1, 1_000_000),
        None,
        "Requests that one worker runs at the same time; idle connections do not count. While it runs as many, new connections "
        "wait in the kernel for the first worker to be free. The default is 1000 with engine = eventlet, 32 with threads.",
        "max_clients",
        "wsgi_default_pool_size",
        "wsgi/default_pool_size",
    ),
    option(
        "http_keepalive",
        Switch(),
        True,
        "Serve several requests on a connection. Where it is false, every answer closes its connection.",
        "wsgi_keep_alive",
        "wsgi/keep_alive",
    ),
    option(
        "keepalive_timeout",
        Seconds(),
        75.0,
        "Seconds that a connection may stay idle between two requests. 0 sets no limit.",
    ),
    option(
        "header_timeout",
        Seconds(),
        10.0,
        "Seconds in which the whole head of a request must arrive, counted from its first byte (on a new connection: from the "
        "connection), and a TLS handshake before it. 0 turns that off.",
    ),
    option(
        "client_socket_timeout",
        Seconds(),
        60.0,
        "Seconds within which a client has to send 4096 bytes of content, or to take some of its answer, while the application "
        "waits for that. 0 sets no limit.",
        "wsgi/client_socket_timeout",
    ),
    option(
        "request_timeout",
        Seconds(),
        0.0,
        "Seconds that the application may take to answer a request. One that takes longer is ended with 503, and no other; where "
        "the answer has begun, it is broken off. With engine = eventlet, a request that computes without ever waiting is not "
        "ended: worker_timeout is for that. With engine = threads, it is answered and keeps its slot until it returns. 0 "
        "turns it off.",
    ),
    option(
        "max_request_line",
        Size(64),
        8190,
        "Longest request line in bytes (K may follow). A longer one is answered with 414.",
    ),
    option(
        "max_header_line",
        Size(64),
        16384,
        "Longest header line in bytes (K may follow). A longer one is answered with 431. Large tokens need more.",
        "wsgi/max_header_line",
    ),
    option(
        "max_headers", Count(1, 10000), 200, "Most header lines that a request may have. More are answered with 431."
    ),
    option(
        "max_header_size",
        Size(256),
        65536,
        "Largest sum of a request's header lines in bytes (K and M may follow). More is answered with 431.",
    ),
    option(
        "trusted_proxies",
        Networks(),
        (),
        "Addresses and networks, separated by commas, of the proxies whose word on a client's address, scheme and host is taken "
        "(the fields of trusted_proxy_headers, the PROXY protocol). By default no peer is trusted.",
    ),
    option(
        "trusted_proxy_headers",
        ProxyHeaders(),
        forwarded.DEFAULT_HEADERS,
        "The fields that these proxies set, separated by commas: x-forwarded-for, x-forwarded-proto, x-forwarded-host, "
        "x-forwarded-port, x-forwarded-prefix, x-real-ip, or forwarded alone. Name only what every one of them sets or "
        "removes: what it passes on is the client's word. Those that are not named are removed from each request.",
    ),
    option(
        "allowed_hosts",
        Hosts(),
        (),
        "Hosts, without port and separated by commas, for which requests are answered; others get 421. .example.org is the "
        "domain and all below it, *.example.org all below it, own_address the address on which the connection came in, * any. "
        "Any by default.",
    ),
    option(
        "proxy_protocol",
        Switch(),
        False,
        "Expect a PROXY protocol header (version 1 or 2) first on every TCP connection of a trusted proxy; none is expected on "
        "a UNIX socket. Needs trusted_proxies.",
    ),
    option(
        "eventlet_headers_raw",
        Switch(),
        False,
        "Put headers_raw into the environ, for applications written for eventlet. It is a tuple, which wsgiref.validate refuses.",
    ),
    option(
        "access_log",
        Text("path, - or off"),
        "off",
        "Where a line is written for each request: a path, - for the standard output, or off.",
    ),
    option(
        "access_log_format",
        LineFormat(("json",), ACCESS_LOG_TEXTS, ACCESS_LOG_NUMBERS),
        None,
        "Format of the access log's lines, in eventlet's %(name)s words, or json for an object on each line. "
        "The default is much like the common log format, followed by the seconds taken and the request id.",
    ),
]
