"""apid: serves Paste Deploy pipelines from forked workers, each request in a green or a native thread."""
