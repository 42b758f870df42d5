"""Bytes that are no text, and characters that no editor shows: named with their line, or harmless."""

from __future__ import annotations

import pytest

from apid import conf
from apid.errors import ConfigError

FILES = [
    (b"[DEFAULT]\r\nuser = Zo\xeb\n", ":2: the byte 0xeb is not UTF-8; is the file Latin-1?"),
    (b"\xef\xbb\xbf[DEFAULT]\n", ":1: the file begins with a byte order mark (U+FEFF)"),
    ("[DEFAULT]\n".encode("utf-16"), ":1: the file is UTF-16 or UTF-32: save it as UTF-8"),
    ("[DEFAULT]\n".encode("utf-32"), ":1: the file is UTF-16 or UTF-32: save it as UTF-8"),
    ("[DEFAULT]\n".encode("utf-16-le"), ":1: a NUL byte"),
    (b"[DEFAULT]\rworkers = 1\ruser = \0\r", ":3: a NUL byte"),
    ("[DEFAULT]\n\xa0workers = 1\n".encode(), ":2: an invisible character, NO-BREAK SPACE (U+00A0): workers = 1"),
    (
        "[DEFAULT]\nwor\u200bkers = 1\n".encode(),
        ":2: an invisible character, ZERO WIDTH SPACE (U+200B): wor<U+200B>kers = 1",
    ),
    (
        "[DEFAULT]\nworkers\u3000= 1\n".encode(),
        ":2: an invisible character, IDEOGRAPHIC SPACE (U+3000): workers<U+3000>= 1",
    ),
    (
        "[DEFAULT\u200b]\nworkers = 1\n".encode(),
        ":1: an invisible character, ZERO WIDTH SPACE (U+200B): [DEFAULT<U+200B>]",
    ),
    (b"[DEFAULT]\n\x0cworkers = 1\n", ":2: an invisible character, a control character (U+000C): workers = 1"),
    ("[DEFAULT]\nworkers = 1\u200b\n".encode(), ":2: [DEFAULT] workers = 1<U+200B>: must be a whole number"),
    (b"[DEFAULT]\nworkers = 1\r\n= 3\n", ":3: Key cannot be empty: = 3"),
]


@pytest.mark.parametrize(("content", "complaint"), FILES)
def test_what_no_editor_shows_is_named_with_its_line(tmp_path, content, complaint):
    path = tmp_path / "apid.conf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        conf.load(["--config-file", str(path)], environ={})
    assert str(caught.value).startswith(f"{path}{complaint}")


def test_what_is_invisible_and_harmless_is_read(tmp_path):
    """Line ends of every kind, comments in any script, values as they are."""
    path = tmp_path / "apid.conf"
    path.write_bytes(
        "# caf\u00e9\u00a0\u200b\r\n[DEFAULT]\r\nworkers\t= 3\r\naccess_log = /tmp/a\u00a0b\r\n\r\n".encode()
    )
    settings = conf.load(["--config-file", str(path)], environ={})
    assert (settings.daemon.workers, settings.http.access_log) == (3, "/tmp/a\u00a0b")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[loggers]\n", "[loggers]\n".encode("utf-16")])
def test_a_file_that_an_option_names_is_read_as_strictly(refused, tmp_path, content):
    path = tmp_path / "logging.ini"
    path.write_bytes(content)
    assert f"log_config_append = {path}: {path}:1: the file " in refused(f"[DEFAULT]\nlog_config_append = {path}\n")
