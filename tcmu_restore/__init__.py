"""Instant restore for Linux iSCSI servers: a tcmu-runner handler in Python."""
