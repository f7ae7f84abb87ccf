"""What a laptop has instead of a cloud: servers out of wheels, one supervisor, hot reload.

Nothing here is imported by a function. ``EmbeddedPostgres`` and ``EmbeddedValkey`` know nothing of the command line and
are used by the tests as well.
"""
