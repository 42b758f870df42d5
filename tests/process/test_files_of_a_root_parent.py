"""A parent that is root, workers that are not, and a directory for logs that is the workers' user's."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess

import pytest

from tests.support import unprivileged
from tests.support.apps import pipeline
from tests.support.daemon import PROGRAM, TOP, Daemon
from tests.support.processes import wait_until

USER = 54321
"""Nothing on the machine has this number."""

APPEND = """
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys = short
[logger_root]
level = INFO
handlers = file
[handler_file]
class = {kind}
args = ({path!r},{more})
formatter = short
[formatter_short]
format = %(identity)s %(message)s
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only a parent that is root can be led where others may not go"
)


class Tree:
    """`logs` of the workers' user, `secrets` of root's with a file `secret` for root only."""

    def __init__(self, top: pathlib.Path) -> None:
        self.logs, self.secrets = top / "logs", top / "secrets"
        self.log, self.secret = self.logs / "apid.log", self.secrets / "secret"
        self.logs.mkdir()
        os.chown(self.logs, USER, USER)
        self.secrets.mkdir()
        self.secret.write_text("secret")
        self.secret.chmod(0o600)

    def plant(self, target: str, path: pathlib.Path | None = None) -> None:
        """Put a link to `target` in the directory `secrets` where the log was."""
        path = path or self.log
        if path.exists():
            path.rename(f"{path}.old")
        path.unlink(missing_ok=True)
        path.symlink_to(self.secrets / target)

    def check(self) -> None:
        """Fail unless root's files are as they were."""
        found = self.secret.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o600)
        assert self.secret.read_text() == "secret"
        assert [each.name for each in self.secrets.iterdir()] == ["secret"]

    def read(self, path: pathlib.Path | None = None) -> str:
        """What is in the log."""
        path = path or self.log
        return path.read_text() if path.exists() else ""


@pytest.fixture
def tmp_path():
    """As pytest's, which only root may enter."""
    yield from unprivileged.open_directory()


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def apid(daemon):
    """A function that makes a daemon whose workers are USER."""
    program = [*unprivileged.prefix(), str(PROGRAM)]
    return lambda **options: daemon(paste=pipeline("hello"), program=program, user=USER, **options)


def started(one: Daemon, tree: Tree, path: pathlib.Path | None = None) -> Daemon:
    """Start it and wait until its log says that it serves."""
    one.launch()
    wait_until(lambda: "ready: " in tree.read(path), "apid is ready", 30)
    return one


@pytest.mark.parametrize("target", ["secret", "new"])
@pytest.mark.parametrize("options", [{}, {"workers": 0}], ids=["", "inline"])
def test_a_start_follows_no_link_of_the_workers_user(apid, tree, target, options):
    tree.plant(target)
    one = apid(log_file=tree.log, **options).launch()
    assert one.wait() == 2
    reason = f"the log file {tree.log} cannot be opened: the directory {tree.logs} belongs to user {USER}"
    assert reason in one.log()
    tree.check()
    checked = subprocess.run(
        [PROGRAM, "--config-file", one.config, "--check-config"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 2
    assert reason in checked.stderr
    tree.check()


@pytest.mark.slow
def test_links_that_are_planted_while_it_runs(apid, tree):
    access = tree.logs / "access.log"
    one = started(apid(log_file=tree.log, access_log=access, workers=1), tree)
    assert (tree.log.stat().st_uid, tree.log.stat().st_mode & 0o777) == (USER, 0o640)
    reason = f"the log file {tree.log} cannot be opened: the directory {tree.logs} belongs to user {USER}"
    for target in ["secret", "new"]:
        tree.plant(target)
        tree.plant(target, access)
        done = one.apidctl("reopen", check=False)
        assert done.returncode == 1
        assert f"parent: {reason}" in done.stderr
        assert f"worker 0: the log file {tree.log} cannot be opened: Permission denied" in done.stderr
        tree.check()
        access.unlink()
        one.apidctl("reload")  # the file that is open stays in use
        tree.check()
    tree.log.unlink()
    one.apidctl("reopen")
    assert tree.log.stat().st_uid == access.stat().st_uid == USER
    tree.plant("secret")
    done = one.apidctl("upgrade", check=False)
    assert done.returncode == 1
    assert f"the installed program cannot take over: apid: {reason}" in done.stderr
    tree.check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FileHandler", "handlers.WatchedFileHandler", "handlers.RotatingFileHandler"])
def test_handlers_of_log_config_append(apid, tree, tmp_path, kind):
    """The parent writes a line at each signal; two of the handlers open or rename files as they write."""
    more = " 'a', 1, 3" if "Rotating" in kind else ""
    config = tmp_path / "logging.conf"
    config.write_text(APPEND.format(kind=kind, path=str(tree.log), more=more))
    config.chmod(0o600)  # what is in it may be secret
    one = apid(log_config_append=config, workers=1).launch()
    one.allow(".")  # the handlers report on the standard error that they cannot open the file
    one.wait_served()
    assert tree.log.stat().st_uid == USER
    for target in ["secret", "new"]:
        tree.plant(target)
        for command in ["reopen", "reload", "scale 2", "scale 1"]:
            one.apidctl(*command.split(), check=False)
            tree.check()
    tree.log.unlink()
    one.apidctl("reload")
    one.apidctl("reopen")
    assert tree.log.stat().st_uid == USER


@pytest.mark.slow
def test_a_fifo_for_a_handler_of_log_config_append_stops_no_parent(apid, tree, tmp_path):
    config = tmp_path / "logging.conf"
    config.write_text(APPEND.format(kind="handlers.WatchedFileHandler", path=str(tree.log), more=""))
    one = apid(log_config_append=config, workers=1, startup_timeout=5).launch()
    one.allow(".")
    one.wait_served()
    tree.log.unlink()
    os.mkfifo(tree.log)
    os.chown(tree.log, USER, USER)
    one.apidctl("reopen", check=False)
    done = one.apidctl("reload", check=False)  # the trial waits for a reader until startup_timeout
    assert "within 5 s" in done.stderr


def test_a_log_in_a_directory_of_roots(apid, tree):
    """As /var/log: the parent makes the file, and gives it to the user who could not."""
    first, second = tree.secrets.parent / "first.log", tree.secrets.parent / "second.log"
    one = started(apid(log_file=first, workers=1), tree, first)
    assert first.stat().st_uid == USER
    first.rename(f"{first}.1")
    one.apidctl("reopen")
    assert first.stat().st_uid == USER
    one.options["log_file"] = second
    one.write_config()
    one.apidctl("reload")  # the new workers cannot open it
    assert second.stat().st_uid == USER
    one.apidctl("dump")
    assert "worker=0 gen=2" in tree.read(second)
    assert one.stop() == 0


@pytest.mark.slow
def test_a_configuration_that_the_workers_user_can_change_is_said_once(apid, tree):
    log = tree.secrets.parent / "apid.log"
    one = started(apid(log_file=log, workers=1), tree, log)
    line = f"{one.directory} (owner {USER}, mode 0755) can be changed by others, and the parent, which is root, "
    assert line not in tree.read(log)
    os.chown(one.directory, USER, USER)
    for _ in range(2):
        one.apidctl("reload")
    assert tree.read(log).count(f"WARNING apid.parent pid={one.pid} {line}") == 1
    checked = subprocess.run(
        [*unprivileged.prefix(), PROGRAM, "--config-file", one.config, "--check-config"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        check=True,
    )
    assert line in checked.stdout
    one.apidctl("upgrade")
    assert tree.read(log).count(f"WARNING apid.parent pid={one.pid} {line}") == 2  # the new program says it, too
