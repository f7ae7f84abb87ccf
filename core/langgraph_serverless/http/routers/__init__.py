"""One module per resource, each with a ``router``; ``http/app.py`` imports those that are asked for."""
