"""P2, in process: what each layer of the two pipelines of tests/bench/pipeline costs a request, in microseconds.

    python -m tests.bench.bench_pipeline

The pipelines are cut open from the inside: the application alone, then with one filter more at a time; a layer's cost is the
difference. The rounds of all are interleaved and the least time of each counts, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", category=DeprecationWarning)  # WebOb 1.8 imports cgi

from paste.deploy import loadapp, loadfilter  # noqa: E402  (after the filter of warnings)

HERE = Path(__file__).parent / "pipeline"
LAYERS = ("noauth", "sizelimit", "requestid", "faultwrap")
CALLS, ROUNDS = 2000, 15


def environ(path, script="/v1"):
    """A request as a server gives it, for one call."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": script,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost:8080",
        "HTTP_ACCEPT": "application/json",
        "HTTP_X_AUTH_TOKEN": "u:p",
        "HTTP_USER_AGENT": "bench",
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "apid.request_id": "req-00000000-0000-4000-8000-000000000000",
    }


def slices(ini):
    """The pipeline of an ini, from the bare application outwards, by the name of the outermost layer."""
    application = loadapp(f"config:{ini}", name="api")
    found = {"router, resource, JSON": application}
    for name in LAYERS:
        application = loadfilter(f"config:{ini}", name=name)(application)
        found[name] = application
    return found | {"urlmap": loadapp(f"config:{ini}")}


def start_response(status, headers, exc_info=None):
    """Take the head; an answer other than 200 would measure the wrong thing."""
    if not status.startswith("200"):
        raise AssertionError(status)


def once(application, template):
    """Seconds of CALLS requests."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        body = application(dict(template), start_response)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()
    return time.perf_counter() - begin


def measure(path):
    """Microseconds of each slice of both pipelines."""
    inis = {"apid.wsgi": HERE / "modern.ini", "RoutesMiddleware + wsgify": HERE / "classic.ini"}
    runs = {(variant, layer): app for variant, ini in inis.items() for layer, app in slices(ini).items()}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for (variant, layer), application in runs.items():
            template = environ("/v1" + path, "") if layer == "urlmap" else environ(path)
            best[variant, layer] = min(best[variant, layer], once(application, template))
    return {key: seconds / CALLS * 1e6 for key, seconds in best.items()}


def main():
    """Print a table for one animal and for the list of twenty."""
    for path in ("/p/animals/7", "/p/animals"):
        found = measure(path)
        print(f"\nGET /v1{path}   us by layer (us in all)\n{'layer':24}{'apid.wsgi':>20}{'wsgify':>20}")
        before = {"apid.wsgi": 0.0, "RoutesMiddleware + wsgify": 0.0}
        for layer in ("router, resource, JSON", *LAYERS, "urlmap"):
            row = ""
            for variant, inside in before.items():
                total = found[variant, layer]
                row += f"{total - inside:10.2f} ({total:6.2f})"
                before[variant] = total
            print(f"{layer:24}{row}")
        ours, theirs = before.values()
        print(f"{'ratio':24}{theirs / ours:.1f}")


if __name__ == "__main__":
    main()
