"""docs/CONFIGURATION.md says of every option what the code says, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from apid.conf.http import ACCESS_LOG_NUMBERS, ACCESS_LOG_TEXTS
from apid.conf.opts import DEFAULT, list_opts
from apid.conf.types import spell

TEXT = (Path(__file__).parents[3] / "docs" / "CONFIGURATION.md").read_text()

IN_WORDS = {
    ("DEFAULT", "pool_size"): "1000, with threads 32",
    ("DEFAULT", "workers"): "CPUs, at most 8",
    ("DEFAULT", "user"): "who starts apid",
    ("DEFAULT", "group"): "that user's",
    ("DEFAULT", "umask"): "inherited",
    ("DEFAULT", "log_file"): "standard error",
    ("paste_deploy", "config_file"): "api-paste.ini",
    ("listener:name", "config_file"): "that of [paste_deploy]",
    ("ssl", "key_file"): "cert_file",
    ("listener:name", "key_file"): "cert_file",
    ("ssl", "ciphers"): "Python's",
    ("listener:name", "ciphers"): "Python's",
}
"""Defaults that are no value."""


def documented() -> dict[tuple[str, str], str]:
    """Return the default of each option by (group, option)."""
    found = {}
    group = ""
    for line in TEXT.splitlines():
        if heading := re.fullmatch(r"## \[(.+)\]", line):
            group = heading[1].replace("NAME", "name")
        elif line.startswith("## "):
            group = ""
        elif group and (row := re.match(r"\| `(\w+)` \|(.*?)\|", line)):
            assert (group, row[1]) not in found, f"{row[1]} stands twice"
            found[group, row[1]] = row[2].strip()
    return found


def declared():
    for group, options in list_opts():
        for opt in options:
            yield getattr(group, "name", group), opt


def test_every_option_with_its_default():
    expected = {(group, opt.dest): IN_WORDS.get((group, opt.dest), spell(opt.default)) for group, opt in declared()}
    assert documented() == expected


def test_every_alias():
    rows = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \| \w", TEXT.partition("## Spellings of older servers")[2], re.MULTILINE
    )
    expected = []
    for group, opt in declared():
        for alias in opt.deprecated_opts:
            written = f"[{alias.group}] {alias.name}" if alias.group else alias.name
            expected.append((written, opt.dest if group == DEFAULT else f"[{group}] {opt.dest}"))
    assert sorted(rows) == sorted(expected)


def test_the_fields_of_the_access_log():
    listed = TEXT.partition("Fields of `access_log_format`: ")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`([a-z_]+)`", listed)) == sorted(ACCESS_LOG_TEXTS + ACCESS_LOG_NUMBERS)
