"""What each filter costs a request that it has nothing to do with, in microseconds: no more than 2.

    python -m tests.bench.bench_filters

Each filter stands alone around an application that does next to nothing; what that costs by itself is taken off.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
import warnings
from importlib.metadata import entry_points

warnings.filterwarnings("ignore", category=DeprecationWarning)  # WebOb 1.8 imports cgi

from tests.bench.bench_pipeline import environ, start_response  # noqa: E402  (after the filter of warnings)

CALLS, ROUNDS, MOST = 5000, 25, 2.0
OPTIONS = {
    "ipfilter": {"deny": "192.0.2.0/24"},
    "cors": {"allowed_origin": "https://example.org"},
    "keystonecontext": {"require_authtoken": "false"},
    "ratelimit": {"limits": '(POST, "*", .*, 10, MINUTE)'},
}
WORK = {"keystonecontext", "noauth", "noauth2"}
"""They always have something to do: they make the context of the request. Printed and not judged."""
LEFT_OUT = {"authtoken", "opentelemetry"}
"""Their cost is keystonemiddleware's and OpenTelemetry's."""


def application(environ, start_response):
    """Answer at once."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def once(app, template):
    """Seconds of CALLS requests."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        body = app(dict(template), start_response)
    took = time.perf_counter() - begin
    if hasattr(body, "close"):
        body.close()
    return took


def main():
    """Print a row a filter; exit 1 when one costs more than it may."""
    template = environ("/p/animals/7") | {"HTTP_X_USER_ID": "u", "HTTP_X_PROJECT_ID": "p", "HTTP_X_ROLES": "member"}
    runs = {"": application}
    with tempfile.TemporaryDirectory() as directory:
        for entry in sorted(entry_points(group="paste.filter_factory"), key=lambda entry: entry.name):
            if entry.value.startswith("apid.") and entry.name not in LEFT_OUT:
                more = {"state_dir": directory} if entry.name == "ratelimit" else {}
                runs[entry.name] = entry.load()({}, **OPTIONS.get(entry.name, {}), **more)(application)
        best = dict.fromkeys(runs, float("inf"))
        gc.disable()
        for _ in range(ROUNDS):
            for name, app in runs.items():
                best[name] = min(best[name], once(app, template) / CALLS * 1e6)
    costs = {name: cost - best[""] for name, cost in best.items() if name}
    for name, cost in costs.items():
        note = "   makes the context" if name in WORK else "   more than it may" if cost > MOST else ""
        print(f"{name:20}{cost:8.2f} us{note}")
    sys.exit(any(cost > MOST for name, cost in costs.items() if name not in WORK))


if __name__ == "__main__":
    main()
