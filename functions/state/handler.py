"""States and histories of threads: the one API function that loads the user's graphs, whose reducers define a state."""

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.function_runtime import http_handler

handler = http_handler("state", StateContainer)
