"""The only code that talks to a device or a peer."""
