"""Threads: create, search, update, copy, delete. Their states have a function of their own (``functions/state``)."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("threads")
