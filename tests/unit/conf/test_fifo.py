"""Files of the configuration that are FIFOs or devices: the parent reads them at a reload, and must not wait for them."""

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


def test_a_device_that_never_ends_is_refused():
    with pytest.raises(ConfigError, match="/dev/zero: the configuration file cannot be read: it is no regular file"):
        conf.load(["--config-file", "/dev/zero"])
    conf.load(["--config-file", "/dev/null"])


@pytest.mark.parametrize("option", ["cert_file", "key_file", "ca_file", "crl_file"])
def test_the_parent_opens_no_file_of_tls(fifo, option, tmp_path):
    """A worker does, after it has dropped its privileges: tests/unit/server/test_tls_context.py."""
    values = {"cert_file": "/dev/null", "ca_file": "/dev/null", option: fifo}
    path = tmp_path / "apid.conf"
    path.write_text("[ssl]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    (main,) = conf.load(["--config-file", str(path)]).listeners
    assert main.tls is not None
    assert getattr(main.tls, option) == fifo


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    """A pipeline's file may be the workers' user's; a sparse one costs nothing until it is read."""
    with open(tmp_path / "large.ini", "wb") as file:
        file.truncate(1 << 40)
    path = tmp_path / "apid.conf"
    path.write_text("[paste_deploy]\nconfig_file = large.ini\n")
    with pytest.raises(ConfigError, match=r"config_file = large\.ini: .*/large\.ini is larger than 16 MiB"):
        conf.load(["--config-file", str(path)])
