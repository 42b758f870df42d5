"""The process that binds, forks and supervises; imports neither eventlet nor the application."""
