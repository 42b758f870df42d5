"""T3 and P3, in process: what finding a route costs among 5 and among 1000, beside Routes' own matcher.

    python -m tests.bench.bench_router

All routes stand below one `/v2/{tenant}/`, as those of nova do: one bucket for Routes.
"""

from __future__ import annotations

import time
import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)  # WebOb 1.8 imports cgi

import routes  # noqa: E402  (after the filter of warnings)

from apid.wsgi.routeindex import RouteIndex  # noqa: E402  (as above)

SIZES = (5, 50, 500, 1000)
ROUNDS = 15


def mapper_of(size):
    """A mapper of `size` routes: a collection and a member by turns."""
    mapper = routes.Mapper(controller_scan=None, register=False)
    for number in range(size):
        path = f"/v2/{{tenant}}/res{number // 2}" + ("/{id}" if number % 2 else "")
        mapper.connect(path, controller="c", conditions={"method": ["GET"]})
    mapper.create_regs([])
    return mapper


def main():
    """Print microseconds a lookup: the last member, and a path that no route has."""
    environ = {"REQUEST_METHOD": "GET"}
    runs = {}
    for size in SIZES:
        mapper = mapper_of(size)
        index = RouteIndex(mapper)
        for name, path in (("last member", f"/v2/t/res{(size - 2) // 2}/42"), ("miss", "/v2/t/nope/42")):
            runs["index", name, size] = (lambda p=path, i=index: i.find(p, "GET", environ), 2000)
            runs["Routes", name, size] = (lambda p=path, m=mapper: m.routematch(p, environ), 100)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for key, (call, times) in runs.items():
            begin = time.perf_counter()
            for _ in range(times):
                call()
            best[key] = min(best[key], (time.perf_counter() - begin) / times * 1e6)
    print(f"{'us a lookup':28}" + "".join(f"{size:>10}" for size in SIZES) + f"{'1000 : 5':>12}")
    for matcher in ("index", "Routes"):
        for name in ("last member", "miss"):
            row = [best[matcher, name, size] for size in SIZES]
            print(
                f"{matcher + ', ' + name:28}" + "".join(f"{value:10.2f}" for value in row) + f"{row[-1] / row[0]:12.2f}"
            )


if __name__ == "__main__":
    main()
