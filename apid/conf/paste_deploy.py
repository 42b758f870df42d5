"""[paste_deploy]: which pipeline of which file the main listener serves; glance's names."""

from __future__ import annotations

from oslo_config import cfg

from apid.conf.declare import option
from apid.conf.types import FilePath, Text

DEFAULT_CONFIG_FILE = "api-paste.ini"

GROUP = cfg.OptGroup("paste_deploy", help="The Paste Deploy pipeline that is served.")

OPTS: list[cfg.Opt] = [
    option(
        "config_file",
        FilePath(),
        None,
        "Paste Deploy file. The default is api-paste.ini, looked for beside each configuration file, then in /etc/apid; "
        "where there is none, the one that comes with apid serves its default API.",
        "DEFAULT/api_paste_config",
        "wsgi/api_paste_config",
        shown=DEFAULT_CONFIG_FILE,
    ),
    option("app_name", Text(), "main", "Name of the application, pipeline or composite in that file."),
    option("flavor", Text(), None, "Variant of the pipeline: with the flavor keystone, app_name-keystone is served."),
]
