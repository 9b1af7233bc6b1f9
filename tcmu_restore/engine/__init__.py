"""Runs the core on real sources."""
