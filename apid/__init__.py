"""apid: serves Paste Deploy pipelines from forked eventlet workers."""
