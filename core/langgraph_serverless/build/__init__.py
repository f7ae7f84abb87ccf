"""Makes what is deployed: folders with our package, the handlers, the user's project, its manifest and dependencies.

``bundle.py`` puts a bundle together; ``sources.py`` finds our own parts, ``project_copy.py`` copies the user's,
``dependencies.py`` installs the rest with pip. Nothing here runs in a function.
"""
