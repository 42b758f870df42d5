"""bjoern has no command of its own: `python -m tests.bench.bjoern_server PORT MODULE:CALLABLE`."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Serve until killed."""
    import bjoern

    module, _, name = sys.argv[2].partition(":")
    bjoern.run(getattr(importlib.import_module(module), name), "127.0.0.1", int(sys.argv[1]), reuse_port=False)


if __name__ == "__main__":
    main()
