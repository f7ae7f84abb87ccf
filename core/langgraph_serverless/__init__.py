"""The open LangGraph Server that runs as functions.

Layers, from the inside out (import-linter checks them): ``domain`` holds pure rules; ``persistence``, ``queue``,
``streaming``, ``execution`` and ``auth`` are adapters that never import each other; ``services`` hold one use case per
method; ``containers`` wire them; ``http`` and ``cli`` are the outside.
"""

__version__ = "0.1.0"
