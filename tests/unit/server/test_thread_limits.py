"""engine = threads: a pool_size beyond the threads that this process may have names the lowest limit and where it is set."""

from __future__ import annotations

import resource

import pytest

from apid.errors import ConfigError
from apid.server.engines.threads import limits

FREE = resource.RLIM_INFINITY
WHERE = "apid.conf:3: [DEFAULT] pool_size = 100"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that makes control groups: lines of /proc/self/cgroup, and pids.max by path below the mount."""
    monkeypatch.setattr(limits, "_MOUNT", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path / "groups")

    def make(*lines, user=FREE, **most):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (user, FREE))
        (tmp_path / "groups").write_text("".join(f"{line}\n" for line in lines))
        for path, text in most.items():
            group = tmp_path / "cgroup" / path.replace("_", "/")
            group.mkdir(parents=True, exist_ok=True)
            (group / "pids.max").write_text(f"{text}\n")

    return make


def refusal(size=100):
    with pytest.raises(ConfigError) as caught:
        limits.check(size, WHERE)
    return str(caught.value)


def test_the_limit_of_the_user(machine):
    machine(user=107)
    assert refusal() == (
        f"{WHERE}: engine = threads needs 108 threads in a worker (8 of its own), and the limit on processes of this user "
        "(RLIMIT_NPROC, LimitNPROC= of systemd) allows 107"
    )
    machine(user=108)
    limits.check(100, WHERE)


@pytest.mark.parametrize(("line", "top"), [("0::/a/b", ""), ("7:pids:/a/b", "pids_")], ids=["v2", "v1"])
@pytest.mark.parametrize(
    ("own", "around", "named"), [(50, "max", "a/b/pids.max"), ("max", 60, "a/pids.max"), (70, 60, "a/pids.max")]
)
def test_the_limit_of_the_control_group_and_of_those_around_it(machine, line, top, own, around, named):
    machine("3:cpu:/elsewhere", line, user=80, **{f"{top}a_b": own, f"{top}a": around})
    text = refusal()
    assert f"{named}) allows {min(int(one) for one in (own, around) if one != 'max')}" in text
    assert "TasksMax= of systemd" in text


def test_a_container_sees_its_own_limit_only_at_the_top(machine):
    machine("0::/", **{"": 40})
    assert "/cgroup/pids.max) allows 40" in refusal()
    machine("8:pids:/outside/of/here", pids=30)
    assert "/cgroup/pids/pids.max) allows 30" in refusal()


def test_without_control_groups(machine, tmp_path):
    machine()
    (tmp_path / "groups").unlink()
    limits.check(100, WHERE)


def test_the_kernel_s(machine):
    machine()
    text = refusal(100_000_000)
    assert "and the kernel (/proc/sys/kernel/" in text
