"""The default API, written only with apid.wsgi."""
