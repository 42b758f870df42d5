"""[database]: where applications keep their things. The daemon itself has no database; workers pass the address on."""

from __future__ import annotations

import re

from oslo_config import cfg

from apid.conf.declare import option
from apid.conf.types import Text

GROUP = cfg.OptGroup("database", help="The database of the default API, and of whoever reads the same variable.")

OPTS: list[cfg.Opt] = [
    option(
        "connection",
        Text(),
        None,
        "Address of the database, such as postgresql+psycopg://user:password@host/name. Applications find it in the environment "
        "as OS_DATABASE__CONNECTION. Without one, the default API keeps an SQLite file in $STATE_DIRECTORY, or in "
        "~/.local/state/apid.",
    ),
]

_PASSWORD = re.compile(r"(?<=:)[^:@/]+(?=@)")


def masked(address: str) -> str:
    """Return an address without its password."""
    return _PASSWORD.sub("***", address)
