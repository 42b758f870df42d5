"""Filters of the toolkit, one a file; pure WSGI."""
