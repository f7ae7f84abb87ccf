"""Imports httpx without its command line, which it brings along wherever click, rich and pygments are installed: 80 modules that no function needs.

To be imported by functions that load graphs, before langgraph: its SDK and LangSmith import httpx. As ``lean_imports`` does it, the module
cannot be imported for that moment, as if what it needs were missing; httpx provides for that. Nothing else of httpx is another.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, cast

_COMMAND_LINE = "httpx._main"

if "httpx" not in sys.modules:
    cast(dict[str, Any], sys.modules)[_COMMAND_LINE] = None
    try:
        import_module("httpx")
    finally:
        del sys.modules[_COMMAND_LINE]
