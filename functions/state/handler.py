"""States and histories of threads: the one API function that loads the user's graphs, whose reducers define a state.

Also answers what other API functions forward because it takes the user's code, and asks the project's priority handler for them;
API Gateway sends it none of that.
"""

from functools import partial

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.function_runtime import http_handler
from langgraph_serverless.services.priorities import ASK, answer_event

handler = http_handler(
    "state",
    StateContainer,
    also=("assistants", "threads", "store"),
    questions=lambda container: {ASK: partial(answer_event, container.ask_priority_handler)},
)
