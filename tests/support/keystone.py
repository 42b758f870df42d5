"""A Keystone with a database and keys of its own, in an environment of its own, served by apid."""

from __future__ import annotations

import getpass
import grp
import json
import os
import pathlib
import subprocess
import sys

from tests.support import checkout
from tests.support.client import Connection
from tests.support.daemon import TOP, Daemon

VENV = TOP / ".venv-keystone"
"""Kept between runs: making it takes most of a minute."""

PASSWORD = "s3cret-of-the-test"
JSON = {"Content-Type": "application/json"}

CONFIGURATION = """
[DEFAULT]
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
expiration = {expiration}
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/receipts
[credential]
key_repository = {directory}/credentials
"""

APPLICATION = """
def factory(global_conf, **local_conf):
    from keystone.server.wsgi import initialize_public_application
    return initialize_public_application()
"""


def environment() -> pathlib.Path:
    """Install Keystone, gunicorn and this checkout, unless that is done; returns the directory of the programs."""
    python = VENV / "bin" / "python"
    installed = VENV / "installed"
    if not installed.exists():  # before the copy of this checkout: --clear takes away what is in the directory
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    packages = ["keystone", "gunicorn", "-e", f"{checkout.editable(VENV / 'source')}[keystone]"]
    wanted = f"{packages}\n{(TOP / 'pyproject.toml').read_text()}"
    if not installed.exists() or installed.read_text() != wanted:
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, timeout=600)
        installed.write_text(wanted)
    return VENV / "bin"


class Keystone:
    """One in `directory`, with the programs of `venv`; `options` are apid's."""

    def __init__(self, directory: pathlib.Path, venv: pathlib.Path, **options: object) -> None:
        self.directory = directory
        self.venv = venv
        self.environment = {"OS_KEYSTONE_CONFIG_DIR": str(directory), "PYTHONWARNINGS": "ignore"}
        self.configure(3600)
        user = ["--keystone-user", getpass.getuser(), "--keystone-group", grp.getgrgid(os.getgid()).gr_name]
        self.manage("db_sync")
        self.manage("fernet_setup", *user)
        self.manage("credential_setup", *user)
        (directory / "keystone_app.py").write_text(APPLICATION)
        paste = "[app:main]\npaste.app_factory = keystone_app:factory\n"
        program = [str(venv / "apid")]
        self.daemon = Daemon(
            directory, paste=paste, environment=self.environment, program=program, **{"workers": 1, **options}
        ).start()
        self.url = f"http://127.0.0.1:{self.daemon.port}"
        urls = [part for kind in ("public", "internal") for part in (f"--bootstrap-{kind}-url", f"{self.url}/v3")]
        self.manage("bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", "here", *urls)

    def configure(self, expiration: int) -> None:
        """Write its configuration; `expiration` of tokens in seconds."""
        text = CONFIGURATION.format(directory=self.directory, expiration=expiration)
        (self.directory / "keystone.conf").write_text(text)

    def manage(self, *arguments: str) -> None:
        """Run keystone-manage."""
        command = [self.venv / "keystone-manage", "--config-file", self.directory / "keystone.conf", *arguments]
        # no variable of ours: Keystone too reads OS_DATABASE__CONNECTION
        subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], **self.environment})

    def token(self) -> str:
        """Return a new token of the administrator."""
        with Connection(self.daemon.address) as connection:
            answer = connection.request("POST", "/v3/auth/tokens", headers=JSON, body=AUTHENTICATION)
        assert answer.status == 201, answer.text
        return answer.header("X-Subject-Token")

    def revoke(self, token: str) -> None:
        """Revoke a token."""
        with Connection(self.daemon.address) as connection:
            headers = {"X-Auth-Token": token, "X-Subject-Token": token}
            assert connection.request("DELETE", "/v3/auth/tokens", headers=headers).status == 204


_USER = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
_SCOPE = {"project": {"name": "admin", "domain": {"id": "default"}}}
AUTHENTICATION = json.dumps(
    {"auth": {"identity": {"methods": ["password"], "password": {"user": _USER}}, "scope": _SCOPE}}
).encode()
"""A request's content for a token of the administrator."""
