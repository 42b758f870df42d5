"""[DEFAULT], first part: addresses, processes, and what the parent does with them."""

from __future__ import annotations

import os

from oslo_config import cfg

from apid.conf.declare import option, options
from apid.conf.settings import MOST_WORKERS
from apid.conf.types import Bind, Choice, Count, Dotted, FilePath, Host, Names, Seconds, Size, Text, Umask, Workers

MAX_DEFAULT_WORKERS = 8


def default_workers() -> int:
    """Return the number of CPUs this process may run on (cpusets and containers counted in), at most MAX_DEFAULT_WORKERS."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_WORKERS)


OPTS: list[cfg.Opt] = [
    option(
        "bind_host",
        Host(),
        "127.0.0.1",
        "Address or host name to listen on. 0.0.0.0 stands for all IPv4 addresses, :: for all IPv6 ones.",
        "bind_ip",
        "osapi_compute_listen",
    ),
    option(
        "bind_port",
        Count(0, 65535),
        8080,
        "TCP port to listen on. 0 takes any free one; it is logged, and shown by apidctl status.",
        "osapi_compute_listen_port",
    ),
    options(
        "bind",
        Bind(),
        "Address to listen on: host:port, [IPv6 address]:port, unix:/path, or fd:name for a socket that systemd hands over "
        "(FileDescriptorName of the socket unit). May be given several times; overrides bind_host and bind_port.",
    ),
    option(
        "backlog",
        Count(1, 65535),
        4096,
        "Connections that the kernel keeps waiting for a worker, for each address. net.core.somaxconn caps it.",
    ),
    option(
        "workers",
        Workers(0, MOST_WORKERS),
        None,
        "Worker processes. The default, also spelled auto, is the number of CPUs that apid may use, at most 8. "
        "0 serves inline: one process that forks nothing, for debugging.",
        "osapi_compute_workers",
        shown="<number of CPUs, at most 8>",
    ),
    option(
        "user",
        Text("user name"),
        None,
        "User that the workers run as, once the addresses are bound: a name, or a number, which need not be in the user "
        "database. The default is the user who starts apid.",
    ),
    option(
        "group",
        Text("group name"),
        None,
        "Group that the workers run as: a name or a number. The default is the primary group of user; of a number that is not in "
        "the user database, the same number.",
    ),
    option(
        "umask",
        Umask(),
        None,
        "File mode mask of the workers and of UNIX sockets, in octal, for example 0027. The default is the inherited one.",
    ),
    option("pid_file", FilePath(), None, "File that holds the parent's process id while it runs."),
    option(
        "control_socket",
        FilePath(),
        None,
        "Path of the UNIX socket that apidctl talks to. The default is none, and then apidctl has nothing to talk to.",
    ),
    option(
        "listeners",
        Names(),
        (),
        "Names of further listeners, separated by commas. Each one has a section [listener:NAME].",
    ),
    option(
        "tcp_keepidle",
        Count(0, 32767),
        600,
        "Seconds of silence after which the kernel probes whether a client is still there (TCP_KEEPIDLE). 0 turns that off.",
        "keep_idle",
        "wsgi/tcp_keepidle",
    ),
    option(
        "startup_timeout",
        Seconds(),
        60.0,
        "Seconds that a worker may take from its fork until it is ready. A worker that takes longer is killed. 0 sets no limit.",
    ),
    option(
        "worker_timeout",
        Seconds(),
        30.0,
        "Seconds without a sign of life after which a worker counts as hung: its stack is logged, it is killed and replaced. "
        "With engine = threads, also seconds in which all slots are taken and none makes progress. 0 turns that off.",
    ),
    option(
        "graceful_shutdown_timeout",
        Seconds(),
        60.0,
        "Seconds that requests in flight may take to finish when a worker drains. What is left then is cut and named in the log. "
        "0 sets no limit.",
    ),
    option(
        "drain_delay",
        Seconds(),
        0.0,
        "Seconds between TERM and the start of the drain. Health checks fail meanwhile, so that load balancers look elsewhere.",
    ),
    option(
        "max_requests",
        Count(0),
        0,
        "Requests after which a worker is replaced; its successor is ready first. 0 turns that off.",
    ),
    option(
        "max_requests_jitter",
        Count(0),
        0,
        "Requests, chosen at random from 0 to this number, that each worker adds to max_requests, "
        "so that not all are replaced at once.",
    ),
    option(
        "max_worker_rss",
        Size(),
        0,
        "Memory in bytes (K, M and G may follow) above which a worker is replaced; its successor is ready first. Memory that it "
        "shares with other processes, such as what was loaded before the fork, does not count. 0 turns that off.",
    ),
    option(
        "preload",
        Choice("auto", "on", "off"),
        "auto",
        "Whether the application is loaded once for all workers, which are then forked from there: on; off: each worker loads it "
        "by itself; auto: on, unless something was left open while loading that processes cannot share; the log then names it. "
        "With on, that is an error. See docs/FORK_SAFETY.md.",
    ),
    option(
        "after_load",
        Dotted(),
        None,
        "Function (module:name) that is called once the application is loaded, with slot, generation and pid. With preload the "
        "slot is -1, and workers are forked afterwards.",
    ),
    option(
        "after_fork",
        Dotted(),
        None,
        "Function (module:name) that is called in each worker before it serves, with slot, generation and pid: to open what "
        "processes cannot share.",
    ),
    option(
        "before_exit",
        Dotted(),
        None,
        "Function (module:name) that is called in each worker that has drained, with slot, generation and pid.",
    ),
]
