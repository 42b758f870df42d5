"""The controllers of the default API, one noun a file."""
