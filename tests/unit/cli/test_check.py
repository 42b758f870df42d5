from __future__ import annotations

from apid import conf
from apid.cli.check import render
from apid.conf.settings import Settings


def settings(tmp_path, text: str) -> Settings:
    (tmp_path / "api-paste.ini").write_text("")
    (tmp_path / "apid.conf").write_text(text)
    return conf.load(["--config-file", f"{tmp_path}/apid.conf", "--backlog=7"], environ={"OS_DEFAULT__WORKERS": "3"})


def test_what_is_set_stands_first_with_its_source(tmp_path):
    text = render(settings(tmp_path, "[DEFAULT]\nbind_port = 81\n[wsgi]\nkeep_alive = off\n"), {})
    assert text.startswith(
        f"""\
Configuration files, the later one wins:
  {tmp_path}/apid.conf

Options that are set:
  bind_port = 81          ({tmp_path}/apid.conf:2)
  backlog = 7             (command line: --backlog)
  workers = 3             (environment: OS_DEFAULT__WORKERS)
  http_keepalive = false  ({tmp_path}/apid.conf:4 (as [wsgi] keep_alive))
Defaults:
  bind_host = 127.0.0.1
"""
    )


def test_pipelines_and_routes(tmp_path):
    tree = {
        "section": "composite:main",
        "uses": "egg:apid#urlmap",
        "parts": [
            {
                "section": "pipeline:api",
                "uses": "one app",
                "served_at": "/v1",
                "parts": [
                    {"section": "filter:one", "uses": "egg:apid#one", "parts": []},
                    {
                        "section": "app:app",
                        "uses": "egg:apid#api",
                        "parts": [],
                        "routes": [["GET HEAD", "/things", "things.index"], ["GET", "/", ""]],
                    },
                ],
            }
        ],
    }
    loaded = settings(tmp_path, "[DEFAULT]\nlisteners = b\n[listener:b]\nbind = [::1]:1\nbind = unix:/x\n")
    text = render(loaded, {"main": {"tree": tree}, "b": {"truncated": True}})
    assert text.endswith(
        f"""

Listener main: 127.0.0.1:8080, plain HTTP
  main of {tmp_path}/api-paste.ini
    [composite:main]  (egg:apid#urlmap)
      /v1 -> [pipeline:api]
        [filter:one]  (egg:apid#one)
        [app:app]  (egg:apid#api)
          GET HEAD  /things  things.index
          GET       /

Listener b: [::1]:1, unix:/x, plain HTTP
  main of {tmp_path}/api-paste.ini
  (loaded; too large to be shown here)

The application is loaded once, and workers are forked from there."""
    )
