"""States and histories of threads: the one API function that loads the user's graphs, whose reducers define a state.

Also answers what other API functions forward because it takes the user's code; API Gateway sends it none of those routes.
"""

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.function_runtime import http_handler

handler = http_handler("state", StateContainer, also=("assistants", "threads", "store"))
