"""The open LangGraph Server that runs as functions.

Layers, from the inside out (import-linter checks them): ``domain`` holds pure rules; ``persistence``, ``queue``,
``streaming``, ``execution`` and ``auth`` are adapters that never import each other; ``services`` hold one use case per
method; ``containers`` wire them; ``http`` and ``cli`` are the outside.
"""

import os

# LangGraph looks at it once, when it is imported: without it, reading a checkpoint calls whatever the checkpoint names, in any
# saver and cache of the project's own. Always on, whatever the environment says (docs/adr/0030-configuration-and-safe-loading.md).
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

__version__ = "0.1.0"
