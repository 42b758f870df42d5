"""HTTP/1.1 on the wire: bytes in and values out; no socket, no clock."""
