"""The command line: a D-Bus client with no storage logic."""
