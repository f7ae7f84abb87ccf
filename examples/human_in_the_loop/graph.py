"""A draft that waits for a person: approve it, edit it or reject it.

The run stops at `interrupt()` with its state saved. Nothing runs, and nothing is paid for, until somebody resumes it:
seconds or weeks later, on any worker.
"""

from typing import Literal, NotRequired

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict


class State(TypedDict):
    """`topic` comes in; `sent` is what left the house in the end."""

    topic: str
    draft: NotRequired[str]
    status: NotRequired[Literal["sent", "rejected"]]
    sent: NotRequired[str]
    reason: NotRequired[str]


def write_draft(state: State) -> dict[str, str]:
    return {"draft": f"Dear team, a few words about {state['topic']}. Yours, the agent"}


def review(state: State) -> Command[Literal["send", "reject"]]:
    # The first time, this line stops the run and hands the payload to the client. On resume the node starts again
    # from its top, and the call returns what the client sent with Command(resume=...).
    answer = interrupt(
        {
            "question": "May this be sent?",
            "draft": state["draft"],
            "answers": [
                {"action": "approve"},
                {"action": "edit", "draft": "a better text"},
                {"action": "reject", "reason": "why"},
            ],
        }
    )
    # "approve" alone is enough for what needs no details.
    decision = {"action": answer} if isinstance(answer, str) else answer
    match decision:
        case {"action": "approve"}:
            return Command(goto="send")
        case {"action": "edit", "draft": str(draft)}:
            return Command(goto="send", update={"draft": draft})
        case {"action": "reject"}:
            return Command(goto="reject", update={"reason": str(decision.get("reason", ""))})
    raise ValueError(f"Expected the action approve, edit (with a draft) or reject, got {answer!r}")


def send(state: State) -> dict[str, str]:
    return {"status": "sent", "sent": state["draft"]}


def reject(state: State) -> dict[str, str]:
    return {"status": "rejected"}


builder = StateGraph(State)
builder.add_node(write_draft)
builder.add_node(review)  # where it goes next is written in its return type
builder.add_node(send)
builder.add_node(reject)
builder.add_edge(START, "write_draft")
builder.add_edge("write_draft", "review")
builder.add_edge("send", END)
builder.add_edge("reject", END)

graph = builder.compile()
