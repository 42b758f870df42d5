"""Green threads: eventlet's hub and executor, and `eventlet.wsgi.server` around each listening socket."""
