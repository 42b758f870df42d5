"""A real systemd, as PID 1 of namespaces of its own, to run apid's units for real.

It lives on a copy of this machine's root: an overlay whose upper layer is a tmpfs, with /tmp, /run, /dev, /proc and a network of
its own, /sys and /proc/sys read-only, under a control group of its own and without the capabilities that reach a machine's clock,
modules and devices. What it does to files vanishes with it. `etc` alone is shared: it is its /etc/apid.

The program is this checkout with this environment's packages, bound to /opt/apid-test, where a user without a name can read them;
/usr/local/bin/apid and apidctl start it, so that the units run unchanged.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from typing import Self

from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
UNITS = TOP / "systemd"
PLACE = "/opt/apid-test"
SYSTEMD = pathlib.Path("/lib/systemd/systemd")
DROPPED = "sys_boot sys_module sys_rawio sys_time syslog mknod mac_admin mac_override audit_control wake_alarm"
MASKED = """
    systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service systemd-sysctl.service
    systemd-modules-load.service systemd-binfmt.service systemd-udevd.service systemd-random-seed.service
    systemd-firstboot.service systemd-timesyncd.service systemd-networkd.service systemd-remount-fs.service
    dev-hugepages.mount dev-mqueue.mount
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount sys-kernel-config.mount
    proc-sys-fs-binfmt_misc.automount
"""

ROOT = """
set -eu
[ "$$" = 1 ]
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1g tmpfs {dir}/ns
mkdir {dir}/ns/upper {dir}/ns/work {dir}/ns/root
r={dir}/ns/root
mount -t overlay -o lowerdir=/,upperdir={dir}/ns/upper,workdir={dir}/ns/work overlay $r
for d in tmp var/tmp run; do mount -t tmpfs -o mode=1777 tmpfs $r/$d; done
chmod 755 $r/run
mount -t tmpfs -o mode=755 tmpfs $r/dev
for n in null zero full random urandom tty; do : > $r/dev/$n; mount --bind /dev/$n $r/dev/$n; done
mkdir $r/dev/pts $r/dev/shm $r/dev/mqueue $r/dev/hugepages
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts $r/dev/pts
mount -t tmpfs -o mode=1777 tmpfs $r/dev/shm
ln -s pts/ptmx $r/dev/ptmx; ln -s /proc/self/fd $r/dev/fd
mount -t proc proc $r/proc
for p in sys sysrq-trigger irq bus fs; do
  if [ -e $r/proc/$p ]; then mount --bind $r/proc/$p $r/proc/$p; mount -o remount,bind,ro $r/proc/$p; fi
done
mount -t sysfs -o ro sysfs $r/sys
mount -t cgroup2 cgroup2 $r/sys/fs/cgroup
mkdir -p $r{place}/packages $r{place}/checkout $r{place}/python $r/etc/apid
mount --bind {packages} $r{place}/packages
mount --bind {top} $r{place}/checkout
mount --bind {base} $r{place}/python
mount --bind {dir}/etc $r/etc/apid
mkdir $r{place}/written
mount --bind {dir}/ns/upper $r{place}/written
cp {dir}/bin/* $r/usr/local/bin/
rm -rf $r/etc/systemd/system/*.wants $r/etc/systemd/system/*.requires
: > $r/etc/fstab
mkdir -p $r/run/systemd/system
cp -r {dir}/units/. $r/run/systemd/system/
mkdir $r/.old
pivot_root $r $r/.old
cd /
umount -l /.old
rmdir /.old
exec env -i container=apid-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
  setpriv --bounding-set {caps} --inh-caps {caps} {systemd} --system --unit=apid-test.target --log-target=journal --show-status=0
"""

TARGET = "[Unit]\nDescription=a boot for tests\nDefaultDependencies=no\nWants=systemd-journald.service\n"

LAUNCHER = """#!/bin/sh
# a Python built as a shared library looks for it where it was installed, which a user without a name cannot see
export LD_LIBRARY_PATH={place}/python/lib
exec {place}/python/{python} /usr/local/bin/{name}.py "$@"
"""

PROGRAM = """
import sys
sys.path[:0] = ["{place}/checkout", "{place}/packages"]
from apid.cli.main import {name}
sys.exit({name}())
"""

CLIENT = """
import http.client, json, sys, time
port, seconds, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
answers, errors, slowest, end = 0, [], 0.0, time.monotonic() + seconds
while True:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        response.read()
        answers += 1
        if response.status not in (200, 300):
            errors.append(str(response.status))
    except (OSError, http.client.HTTPException) as error:
        errors.append(type(error).__name__)
    finally:
        connection.close()
    slowest = max(slowest, time.monotonic() - began)
    if time.monotonic() >= end:
        break
    time.sleep(0.005)
print(json.dumps({"answers": answers, "errors": errors, "slowest": slowest}))
"""


def why_not() -> str:
    """Return what is missing on this machine, or the empty text."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and mounts"
    if not SYSTEMD.exists():
        return "systemd is not installed here"
    missing = [
        name for name in ("unshare", "nsenter", "setpriv", "pivot_root", "systemctl") if shutil.which(name) is None
    ]
    if missing:
        return f"{', '.join(missing)} not installed here"
    if control_groups() is None:
        return "no control groups of version 2 mounted here"
    probe = [
        "unshare",
        "--cgroup",
        "--fork",
        "--pid",
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--propagation",
        "private",
        "true",
    ]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no namespaces to be had here: {done.stderr.strip()}" if done.returncode else ""


def control_groups() -> pathlib.Path | None:
    """Return where control groups of version 2 are mounted."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2" and "rw" in options.split(","):
            return pathlib.Path(place)
    return None


class Machine:
    """One boot. `with` boots and powers off.

    Args:
        directory: an empty one, not below /tmp or /run: those are hidden inside.
        drop_ins: text of a drop-in by unit, such as {"apid.service": "[Service]\\nWatchdogSec=3\\n"}.
    """

    def __init__(self, directory: pathlib.Path, drop_ins: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.etc = directory / "etc"
        self.process: subprocess.Popen[bytes] | None = None
        self.init = 0
        self.group = (control_groups() or pathlib.Path("/")) / f"apid-test.{os.getpid()}"
        for name in ("ns", "etc", "units", "bin"):
            (directory / name).mkdir()
        self.etc.chmod(0o755)
        for unit in UNITS.iterdir():
            shutil.copy(unit, directory / "units")
        for unit, text in (drop_ins or {}).items():
            (directory / "units" / f"{unit}.d").mkdir()
            (directory / "units" / f"{unit}.d" / "test.conf").write_text(text)
        (directory / "units" / "apid-test.target").write_text(TARGET)
        for unit_name in MASKED.split():
            (directory / "units" / unit_name).symlink_to("/dev/null")
        for name in ("apid", "apidctl"):
            facts = {"place": PLACE, "python": _python(), "name": name}
            (directory / "bin" / f"{name}.py").write_text(PROGRAM.format(**facts))
            launcher = directory / "bin" / name
            launcher.write_text(LAUNCHER.format(**facts))
            launcher.chmod(0o755)

    def __enter__(self) -> Self:
        caps = ",".join(f"-{name}" for name in DROPPED.split())
        facts = {
            "dir": self.directory,
            "place": PLACE,
            "packages": sysconfig.get_path("purelib"),
            "top": TOP,
            "base": pathlib.Path(sys.base_prefix).resolve(),
            "caps": caps,
            "systemd": SYSTEMD,
        }
        (self.directory / "root.sh").write_text(ROOT.format(**facts))
        self.group.mkdir()
        spaces = "--cgroup --fork --pid --mount --uts --ipc --net --propagation private"
        script = f"echo 0 > {self.group}/cgroup.procs; exec unshare {spaces} bash {self.directory}/root.sh"
        with (self.directory / "boot.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(self._is_up, "systemd is up", 60)
        except AssertionError as error:
            self.__exit__()
            raise AssertionError(f"{error}\n{(self.directory / 'boot.log').read_text()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process
        if self.init:
            self.systemctl("--no-block", "poweroff", check=False)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.kill(self.init, 9)
        if self.process.poll() is None:
            self.process.kill() if not self.init else None
        self.process.wait(20)
        wait_until(self._remove_groups, "the control group is empty", 20)

    def run(self, *command: str | pathlib.Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        inside = ["nsenter", "-t", str(self.init), "-a", *map(str, command)]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run systemctl inside; where it fails and must not, its unit's journal is in the error."""
        done = self.run("systemctl", "--no-pager", *arguments, check=False)
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}\n{self.journal(arguments[-1])}"
        return done

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        lines = self.systemctl("show", unit, *(f"--property={name}" for name in names)).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str) -> str:
        """Return what a unit logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def written(self, since: str) -> list[str]:
        """Return the files on the root that were written after the file `since` was."""
        place = f"{PLACE}/written"
        found = self.run("find", place, "-type", "f", "-newer", f"{place}{since}").stdout.split()
        return [path.removeprefix(place) for path in found]

    def client(self, port: int, seconds: float = 0.0, path: str = "/") -> subprocess.Popen[str]:
        """Start a client inside that asks, one connection a request, for so long (once at least)."""
        program = ["env", f"LD_LIBRARY_PATH={PLACE}/python/lib", f"{PLACE}/python/{_python()}", "-I", "-c", CLIENT]
        program += [str(port), str(seconds), path]
        return subprocess.Popen(["nsenter", "-t", str(self.init), "-a", *program], stdout=subprocess.PIPE, text=True)

    def ask(self, port: int, path: str = "/") -> dict[str, object]:
        """Ask once, now."""
        return told(self.client(port, 0.0, path))

    def _is_up(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "it ended"
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children or pathlib.Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
            return False
        self.init = int(children[0])
        return self.systemctl("is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def _remove_groups(self) -> bool:
        for path in sorted(self.group.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        self.group.rmdir()
        return True


def _python() -> pathlib.Path:
    """Return the interpreter's place in its prefix, which is bound to PLACE/python."""
    return pathlib.Path(sys.executable).resolve().relative_to(pathlib.Path(sys.base_prefix).resolve())


def told(client: subprocess.Popen[str]) -> dict[str, object]:
    """Return what a client saw, when it has ended: `answers`, `errors`, `slowest` in seconds."""
    output, _ = client.communicate(timeout=120)
    assert client.returncode == 0
    answer: dict[str, object] = json.loads(output)
    return answer
