"""From bytes to WSGI and back: the protocol, the engines that run requests, and a connection's life between them."""
