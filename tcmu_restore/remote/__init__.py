"""The backup host as the primary drives it: over SSH or targetd's API. Runs in the command line."""
