"""Prometheus scrapes the daemon, and reads every expression that the documents and the Grafana dashboard propose (slow)."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request

import pytest

from tests.support.client import get
from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: apid
    static_configs: [{{targets: ["{target}"]}}]
"""


def have(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install prometheus)")


def expressions() -> list[str]:
    board = json.loads((TOP / "docs" / "grafana.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    found += [one["expr"] for one in board["annotations"]["list"]]
    text = (TOP / "docs" / "METRICS.md").read_text(encoding="utf-8").partition("## Questions")[2]
    found += [one for one in re.findall(r"`([^`]+)`", text) if "apid_" in one]
    replaced = [
        one.replace("$__rate_interval", "5m").replace("$job", "apid").replace("$instance", ".*") for one in found
    ]
    assert len(replaced) > 30
    return replaced


@pytest.mark.slow
def test_every_proposed_expression_is_promql(tmp_path):
    have("promtool")
    rules = [{"record": f"r{number}", "expr": one} for number, one in enumerate(expressions())]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_prometheus_scrapes_it_and_knows_every_series(daemon, tmp_path):
    have("prometheus")
    paste = (TOP / "etc" / "apid" / "api-paste.ini").read_text(encoding="utf-8")
    one = daemon(
        engine="threads",  # which has every series
        paste=paste,
        listeners="admin",
        sections={"listener:admin": {"bind": "127.0.0.1:0", "app_name": "admin"}},
    ).start()
    one.apidctl("reload")
    for _ in range(20):
        get(one.address)
    config = tmp_path / "prometheus.yml"
    config.write_text(SCRAPE.format(target=one.addresses("admin")[0]), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with open(tmp_path / "prometheus.log", "wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)

    def ask(expression: str) -> list:
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []  # not there yet

    try:
        wait_until(lambda: (r := ask("up")) and r[0]["value"][1] == "1", "a scrape", 30, 0.2)
        wait_until(
            lambda: (r := ask("apid_http_requests_total")) and float(r[0]["value"][1]) >= 20, "the counter", 30, 0.2
        )
        (generation,) = ask("apid_generation")
        assert generation["value"][1] == "2"
        names = {name for expression in expressions() for name in re.findall(r"\bapid_\w+", expression)}
        assert {name for name in names if not ask(name)} == set()
    finally:
        process.terminate()
        process.wait(20)
