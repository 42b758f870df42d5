"""What bodies and queries of the default API look like, one noun a file."""
