"""Crons: scheduled runs as rows. The scheduler fires them."""

from langgraph_serverless.function_runtime import http_handler

handler = http_handler("crons")
