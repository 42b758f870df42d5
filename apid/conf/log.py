"""[DEFAULT], third part: the daemon's own log, with oslo.log's names."""

from __future__ import annotations

from oslo_config import cfg

from apid.conf.declare import option
from apid.conf.types import FilePath, Switch, Text

OPTS: list[cfg.Opt] = [
    option("debug", Switch(), False, "Log at the level DEBUG instead of INFO."),
    option(
        "log_file",
        Text("path"),
        None,
        "File to log to. A relative path is relative to log_dir where that is given. The default is the standard error.",
        "logfile",
    ),
    option("log_dir", FilePath(), None, "Directory to log to, into log_file or else apid.log.", "logdir"),
    option("use_json", Switch(), False, "Log one JSON object a line."),
    option(
        "use_journal",
        Switch(),
        False,
        "Log to systemd-journald by its own protocol, with the process's fields beside the message.",
    ),
    option(
        "log_config_append",
        FilePath(),
        None,
        "File in the format of logging.config that sets up all logging. The other options of the log are not looked at then.",
        "log_config",
    ),
]
