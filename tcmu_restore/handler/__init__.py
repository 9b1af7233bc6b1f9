"""The tcmu-runner side: C glue, entry points, status table."""
