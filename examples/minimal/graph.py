"""The smallest useful graph: one node that answers a text."""

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict):
    """What a run takes in (`text`) and gives back (`reply`)."""

    text: str
    reply: str


def answer(state: State) -> dict[str, str]:
    # A node returns the part of the state that it changes.
    return {"reply": f"You said: {state['text']}"}


builder = StateGraph(State)
builder.add_node(answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)

# No checkpointer here: the server brings its own, on Postgres.
graph = builder.compile()
