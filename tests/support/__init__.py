"""What the tests stand on: the daemon as a process, a client of bytes, a load generator that judges, nasty applications."""
