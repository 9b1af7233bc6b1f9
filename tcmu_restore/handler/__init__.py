"""The tcmu-runner side: a plugin with a Python interpreter in it.

The data path reads: ``handler_glue.c`` (queues a command on tcmu-runner's thread),
``device`` (drains the queue on the engine's thread), ``engine`` (serves it), ``scsi_status``
(what an error is in SCSI), and back through ``device`` into the glue. ``entry_points`` opens
and closes volumes; ``build_handler`` and ``install`` make the plugin and put it in place.

Only ``build_handler`` and ``install`` can be imported outside of tcmu-runner, and what
they import: the other modules need ``tcmu_restore_handler``, which is the plugin itself.
"""
