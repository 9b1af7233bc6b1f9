"""Writes a snapshot to a directory that travels. Runs on the backup host, in the command line."""
