"""All groups and their options in one list: for conf.load, the command line and oslo.config's generator and validator."""

from __future__ import annotations

from oslo_config import cfg

from apid.conf import database, http, listener, log, paste_deploy, server, ssl

DEFAULT = "DEFAULT"


def groups() -> list[tuple[cfg.OptGroup | None, list[cfg.Opt]]]:
    """Return the groups that always exist, [DEFAULT] as None, with their options."""
    return [
        (None, [*server.OPTS, *http.OPTS, *log.OPTS]),
        (paste_deploy.GROUP, list(paste_deploy.OPTS)),
        (ssl.GROUP, list(ssl.OPTS)),
        (database.GROUP, list(database.OPTS)),
    ]


def list_opts() -> list[tuple[cfg.OptGroup | str, list[cfg.Opt]]]:
    """Return what the entry point `oslo.config.opts` is asked for; [listener:name] stands for every listener."""
    always = [(group or DEFAULT, options) for group, options in groups()]
    return [*always, (listener.group("name"), listener.listener_opts())]
