"""Coding agents from npm, the programs themselves, against this server: `make agents`. No test of `make test`."""
