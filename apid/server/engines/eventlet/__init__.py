"""Green threads: eventlet's hub and eventlet.wsgi.server."""
