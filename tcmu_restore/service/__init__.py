"""The D-Bus service that the running handler offers."""
