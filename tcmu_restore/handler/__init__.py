"""The tcmu-runner side: a plugin with a Python interpreter in it.

The data path reads: ``handler_glue.c`` (takes a command on tcmu-runner's thread),
``command_queue.c``, ``device`` (drains the queue on the engine's thread), ``engine`` (serves it),
``scsi_status`` (what an error is in SCSI), and back through ``device`` into the queue.
``entry_points`` opens and closes volumes; ``build_handler`` and ``install`` make the plugin and
put it in place.

``glue`` and ``entry_points`` can only be imported inside tcmu-runner: they need
``tcmu_restore_handler``, which is the plugin itself.
"""
