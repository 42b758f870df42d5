"""Files of the configuration that are FIFOs: the parent reads them at a reload, and must not wait in open(2)."""

from __future__ import annotations

import os

import pytest

from apid import conf
from apid.errors import ConfigError


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


def test_a_configuration_file_is_refused(fifo):
    with pytest.raises(ConfigError, match=f"{fifo}: the configuration file cannot be read: it is a FIFO"):
        conf.load(["--config-file", fifo])


def test_what_a_shell_passes_as_a_file_is_refused():
    reading, writing = os.pipe()
    os.close(writing)
    try:
        with pytest.raises(ConfigError, match="it is a FIFO"):  # as with `--config-file <(command)`
            conf.load(["--config-file", f"/dev/fd/{reading}"])
    finally:
        os.close(reading)


@pytest.mark.parametrize("option", ["cert_file", "key_file"])
def test_a_certificate_or_key_is_refused(fifo, option, tmp_path):
    values = {"cert_file": "/dev/null", option: fifo}
    path = tmp_path / "apid.conf"
    path.write_text("[ssl]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    with pytest.raises(ConfigError, match=f"{option} = {fifo}: {fifo} cannot be read: it is a FIFO"):
        conf.load(["--config-file", str(path)])


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    """A pipeline's file may be the workers' user's; a sparse one costs nothing until it is read."""
    with open(tmp_path / "large.ini", "wb") as file:
        file.truncate(1 << 40)
    path = tmp_path / "apid.conf"
    path.write_text("[paste_deploy]\nconfig_file = large.ini\n")
    with pytest.raises(ConfigError, match=r"config_file = large\.ini: .*/large\.ini is larger than 16 MiB"):
        conf.load(["--config-file", str(path)])
