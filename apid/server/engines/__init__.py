"""What runs requests: an event loop and an executor, behind one interface."""
