"""Each fuzz target for a bounded time, the corpus being its seeds. A finding is printed with its octets."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.support import corpus

TOP = pathlib.Path(__file__).parents[2]

PROXY_SEEDS = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\nGET",
    b"PROXY UNKNOWN x\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x67\0\x50",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(36),
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x05abcde",
]
FORWARDED_SEEDS = [
    b"\0\x1f192.0.2.7, 10.0.0.2\nhttps, http\napi:8443\n443\n/v2/%41",
    b'\2\x40\n\n\n\n\n\nfor=192.0.2.7;proto=https;host=api, for="[::1]:80"',
    b"\1\x7f[2001:db8::1]:80\nHTTP\n[::1]\n0\n//x\n::1\nfor=unknown",
]


def seeds(target):
    if target == "stream":
        return [
            bytes([number & 255]) + case.octets for number, case in enumerate(corpus.load()) if len(case.octets) < 1500
        ]
    return PROXY_SEEDS if target == "proxy" else FORWARDED_SEEDS


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (extra fuzz)")
@pytest.mark.parametrize(("target", "seconds"), [("stream", 60), ("proxy", 15), ("forwarded", 15)])
def test_no_invariant_is_broken(target, seconds, tmp_path):
    folder = tmp_path / "seeds"
    folder.mkdir()
    for number, seed in enumerate(seeds(target)):
        (folder / str(number)).write_bytes(seed)
    ended = subprocess.run(
        [
            sys.executable,
            f"tests/fuzz/{target}.py",
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-max_len=2000",
            f"-artifact_prefix={tmp_path}/",
            str(folder),
        ],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        timeout=seconds + 60,
        check=False,
    )
    said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    findings = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert ended.returncode == 0, (findings, said[-3000:])
    done = re.search(r"Done (\d+) runs", said)
    assert done, said[-3000:]
    assert int(done[1]) > 1000
