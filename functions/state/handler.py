"""States and histories of threads: the one API function that loads the user's graphs, whose reducers define a state.

Also answers what other API functions forward because it takes the user's code, and asks the project's priority handler for them,
and answers what commands of the thread protocol ask about states; API Gateway sends it none of that.
"""

from functools import partial

from langgraph_serverless import lean_clients  # noqa: F401 - before langgraph is imported
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.function_runtime import http_handler
from langgraph_serverless.services import priorities, state_queries

handler = http_handler(
    "state",
    StateContainer,
    also=("assistants", "threads", "store"),
    questions=lambda container: {
        priorities.ASK: partial(priorities.answer_event, container.ask_priority_handler),
        state_queries.ASK: partial(state_queries.answer_event, container.state_queries),
    },
)
