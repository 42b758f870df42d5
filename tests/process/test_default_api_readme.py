"""The README's "Try the default API", run by a shell word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.support.daemon import TOP


def commands() -> str:
    """The section's code block."""
    section = (
        (TOP / "README.md").read_text(encoding="utf-8").partition("\n## Try the default API\n")[2].partition("\n## ")[0]
    )
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return block


def documents(text: str) -> list:
    """JSON documents that follow each other."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_its_lines_do_what_they_say(daemon, tmp_path):
    shipped = TOP / "etc" / "apid" / "api-paste.ini"
    running = daemon(sections={"paste_deploy": {"config_file": shipped}}, workers=1).start()
    # the README's port, wherever this daemon listens
    (tmp_path / ".curlrc").write_text(f"connect-to = 127.0.0.1:8080:127.0.0.1:{running.port}\n")
    done = subprocess.run(
        ["sh", "-eu", "-c", commands()],
        env={"PATH": os.environ["PATH"], "CURL_HOME": str(tmp_path), "HOME": str(tmp_path), "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, listed, adopted, renamed, limits, deleted = documents(done.stdout)
    assert (shown["animal"]["name"], shown["animal"]["status"]) == ("Rex", "available")
    assert [animal["id"] for animal in listed["animals"]] == [shown["animal"]["id"]]
    assert (adopted["animal"]["status"], adopted["animal"]["adopted_by"]) == ("adopted", "Ann")
    assert (renamed["animal"]["name"], renamed["animal"]["status"]) == ("Max", "adopted")
    assert limits["limits"]["absolute"]["totalAnimalsUsed"] == 1
    assert deleted == 204
