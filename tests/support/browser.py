"""A real Chromium, spoken to through chromedriver in the W3C WebDriver protocol, which is JSON over HTTP and needs no library."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import urllib.request
from typing import Any, Self

from tests.support.processes import wait_until

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--no-default-browser-check",
    "--hide-scrollbars",
]


def have_chromium() -> None:
    """Skip the calling test where there is none."""
    import pytest

    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install chromium chromium-driver)")


class Browser:
    """One window. `with` starts and ends it.

    Args:
        directory: an empty one, for its profile and the driver's log.
        size: of the window in CSS pixels.
        dark: what prefers-color-scheme says.
    """

    def __init__(self, directory: pathlib.Path, size: tuple[int, int] = (1280, 900), *, dark: bool = False) -> None:
        self._directory = directory
        self._size = size
        self._dark = dark
        self._session = ""

    def __enter__(self) -> Self:
        self._directory.mkdir()
        log = self._directory / "driver.log"
        with open(log, "wb") as output:
            self._driver = subprocess.Popen(
                ["chromedriver", "--port=0"],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "HOME": str(self._directory)},
            )
        try:
            port = wait_until(lambda: _port(log.read_text("utf-8")), "chromedriver's port", 60)
            self._base = f"http://127.0.0.1:{port}"
            options = {
                "args": [
                    *FLAGS,
                    f"--user-data-dir={self._directory / 'profile'}",
                    f"--window-size={self._size[0]},{self._size[1]}",
                ]
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            found = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{found['sessionId']}"
            self.protocol(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": self._scheme}]
            )
            self.protocol(
                "Emulation.setDeviceMetricsOverride",
                width=self._size[0],
                height=self._size[1],
                deviceScaleFactor=1,
                mobile=self._size[0] < 500,
            )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._end()

    @property
    def _scheme(self) -> str:
        return "dark" if self._dark else "light"

    def _end(self) -> None:
        os.killpg(self._driver.pid, signal.SIGKILL)  # our own session: the driver and what it started
        self._driver.wait()

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(
            self._base + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def protocol(self, command: str, **parameters: object) -> Any:
        """Call the DevTools protocol."""
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run JavaScript in the page: the body of a function; what it returns comes back."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def text(self, selector: str = "body") -> str:
        """The visible text of the first element that a CSS selector finds."""
        return str(self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def complaints(self) -> list[str]:
        """What stands in the console since the last call: errors of scripts, of the network and of the content policy."""
        found = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in found if entry["level"] in {"SEVERE", "WARNING"}]

    def screenshot(self, file: pathlib.Path, *, whole: bool = False) -> pathlib.Path:
        """Write a PNG of the window, or of the whole page."""
        found = self.protocol("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))
        return file


def _port(text: str) -> str:
    return text.rpartition("on port ")[2].partition(".")[0] if "successfully on port" in text else ""
