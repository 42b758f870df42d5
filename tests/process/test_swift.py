"""Swift with all four servers on apid passes its own functional tests of object versioning.

They need what a strict server easily breaks: reserved names with `%00` between the servers, more than a hundred headers from
the proxy to a backend, `100-continue`, chunked uploads, early responses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import checkout
from tests.support.daemon import TOP, Daemon
from tests.support.memcached import Memcached

pytestmark = pytest.mark.slow

VENV = TOP / ".venv-swift"
"""Kept between runs: it takes a minute to make."""

VERSION = "2.38.3"

FACTORY = """
from swift.common import utils
from swift.common.wsgi import loadapp

def factory(global_conf, directory, name):
    utils.set_swift_dir(directory)
    return loadapp(f"{directory}/{name}-server.conf", {"log_name": f"{name}-server"})
"""

PASTE = """
[app:main]
paste.app_factory = swift_on_apid:factory
directory = {directory}
name = {name}
"""

SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = of-the-test
swift_hash_path_prefix = of-the-test
[storage-policy:0]
name = only
default = yes
[swift-constraints]
max_file_size = 8388610
"""

COMMON = """
[DEFAULT]
swift_dir = {directory}
devices = {directory}/node
mount_check = false
log_level = WARNING
log_address = {directory}/no-syslog
"""

STORAGE = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
auto_create_account_prefix = .
[object-replicator]
[container-replicator]
[account-replicator]
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl ratelimit tempauth copy
    container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_admin_admin = admin .admin .reseller_admin
user_test_tester = testing .admin
user_test_tester2 = testing2 .admin
user_test_tester3 = testing3
user_test2_tester2 = testing2 .admin
user_test5_tester5 = testing5 service
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
"""

PLAIN = "catch_errors gatekeeper healthcheck listing_formats bulk tempurl ratelimit copy slo dlo symlink"
"""Filters of the proxy that need no options."""

TEST_CONF = """
[func_test]
auth_uri = http://127.0.0.1:{port}/auth/v1.0
account = test
username = tester
password = testing
account2 = test2
username2 = tester2
password2 = testing2
username3 = tester3
password3 = testing3
"""

RINGS = """
import sys
from swift.common.ring import RingBuilder

directory, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports, strict=True):
    builder = RingBuilder(2, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "sda1", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{directory}/{name}.ring.gz")
"""


@pytest.fixture(scope="module")
def venv():
    """Swift, its client, its functional tests (only the source distribution has them) and this checkout."""
    python, installed = VENV / "bin" / "python", VENV / "installed"
    wanted = f"{VERSION}\n{(TOP / 'pyproject.toml').read_text()}"
    if not installed.exists() or installed.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        pip = [python, "-m", "pip"]
        swift = f"swift=={VERSION}"
        packages = [swift, "python-swiftclient", "pytest", "xattr", "-e", str(checkout.editable(VENV / "source"))]
        subprocess.run([*pip, "install", "-q", *packages], check=True, timeout=600)
        source = ["--no-deps", "--no-binary", "swift", "-d", VENV, swift]
        subprocess.run([*pip, "download", "-q", *source], check=True, timeout=600)
        subprocess.run(["tar", "-xf", VENV / f"swift-{VERSION}.tar.gz", "-C", VENV], check=True)
        installed.write_text(wanted)
    return VENV / "bin"


@pytest.fixture
def memcached():
    server = Memcached()
    yield server
    server.kill()


def test_object_versioning(venv, memcached, tmp_path):
    (tmp_path / "node" / "sda1").mkdir(parents=True)
    (tmp_path / "swift.conf").write_text(SWIFT_CONF)
    common = COMMON.format(directory=tmp_path)
    daemons = []

    def serve(name: str, workers: int) -> int:
        (tmp_path / name).mkdir()
        (tmp_path / name / "swift_on_apid.py").write_text(FACTORY)
        daemon = Daemon(
            tmp_path / name,
            paste=PASTE.format(directory=tmp_path, name=name),
            program=[str(venv / "apid")],
            environment={"PYTHONWARNINGS": "ignore"},
            workers=workers,
        )
        daemons.append(daemon.start(60))
        return daemon.port

    try:
        ports = []
        for name in ("account", "container", "object"):
            (tmp_path / f"{name}-server.conf").write_text(common + STORAGE.format(name=name))
            ports.append(serve(name, 1))
        subprocess.run([venv / "python", "-c", RINGS, tmp_path, *map(str, ports)], check=True)
        filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN.split())
        (tmp_path / "proxy-server.conf").write_text(common + PROXY.format(memcached=memcached.port) + filters)
        port = serve("proxy", 2)
        (tmp_path / "test.conf").write_text(TEST_CONF.format(port=port))
        found = subprocess.run(
            [
                venv / "python",
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "test/functional/test_object_versioning.py",
            ],
            cwd=VENV / f"swift-{VERSION}",
            env={
                "PATH": os.environ["PATH"],
                "SWIFT_TEST_CONFIG_FILE": str(tmp_path / "test.conf"),
                "PYTHONWARNINGS": "ignore",
                "LANG": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert found.returncode == 0, found.stdout[-20000:]
        passed = re.search(r"(\d+) passed", found.stdout)
        assert passed, found.stdout[-2000:]
        assert int(passed[1]) > 100, found.stdout[-2000:]
    finally:
        for daemon in daemons:
            daemon.stop()
        shutil.rmtree(tmp_path / "node")
