"""From bytes to WSGI and back, on eventlet."""
