"""[listener:NAME]: a further listener with its own addresses, pipeline and certificates (an admin port, a second API)."""

from __future__ import annotations

from oslo_config import cfg

from apid.conf.declare import option, options
from apid.conf.ssl import tls_opts
from apid.conf.types import Bind, FilePath, Hosts, Networks, ProxyHeaders, Text

PREFIX = "listener:"

HELP = "One section for each name in listeners. Its bind is needed; without cert_file it speaks plain HTTP, whatever [ssl] says."


def group(name: str) -> cfg.OptGroup:
    """Return the group of the listener with that name."""
    return cfg.OptGroup(PREFIX + name, help=HELP)


def listener_opts() -> list[cfg.Opt]:
    """Return the options of one listener."""
    return [
        options("bind", Bind(), "Address to listen on, as bind in [DEFAULT]. May be given several times."),
        option("config_file", FilePath(), None, "Paste Deploy file. The default is the one of [paste_deploy]."),
        option("app_name", Text(), "main", "Name of the application, pipeline or composite in that file."),
        option(
            "flavor",
            Text(),
            None,
            "Variant of the pipeline, as flavor in [paste_deploy]; that one does not count here.",
        ),
        option("trusted_proxies", Networks(), None, "As in [DEFAULT], whose value is the default."),
        option("trusted_proxy_headers", ProxyHeaders(), None, "As in [DEFAULT], whose value is the default."),
        option("allowed_hosts", Hosts(), None, "As in [DEFAULT], whose value is the default; * allows any."),
        *tls_opts(old_names=False),
    ]
