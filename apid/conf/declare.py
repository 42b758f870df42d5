"""How an option is declared, so that the modules of the groups are nothing but their tables."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg


def option(name: str, kind: Any, default: Any, text: str, *aliases: str, shown: str | None = None) -> cfg.Opt:
    """Declare an option.

    Args:
        name: as in the file; on the command line its underscores are dashes.
        kind: a type of conf.types.
        default: already converted; None for none.
        text: the help, in whole sentences, with units.
        aliases: other spellings with the same meaning, `name` or `group/name`: what nova, glance, swift and oslo.service call it.
        shown: what the sample file shows where the default depends on the machine.
    """
    return cfg.Opt(name, type=kind, default=default, help=text, deprecated_opts=_aliases(aliases), sample_default=shown)


def options(name: str, kind: Any, text: str) -> cfg.MultiOpt:
    """Declare an option that may be given several times."""
    return cfg.MultiOpt(name, item_type=kind, help=text)


def _aliases(spellings: tuple[str, ...]) -> list[cfg.DeprecatedOpt]:
    result = []
    for spelling in spellings:
        group, _, name = spelling.rpartition("/")
        result.append(cfg.DeprecatedOpt(name, group=group or None))
    return result
