"""A served graph, used like a local one: invoked, streamed, looked into, and as a node of another graph.

    python docs/examples/remote_graph.py [URL]

Needs a server that serves the examples (`make dev`) and the package `langgraph`.
"""

import sys
import uuid

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"

print("# invoked, and asked for its state")
graph = RemoteGraph("human_in_the_loop", url=url)
config = {"configurable": {"thread_id": str(uuid.uuid4())}}  # the server makes the thread
graph.invoke({"topic": "tea"}, config)
state = graph.get_state(config)
print("next:", state.next, "question:", state.interrupts[0].value["question"])
print("sent:", graph.invoke(Command(resume="approve"), config)["sent"])
for state in graph.get_state_history(config, limit=3):
    print(state.metadata["step"], state.next)

print("# a node of a graph that runs here")


def shout(state: MessagesState) -> MessagesState:
    return {"messages": [{"role": "user", "content": f"{state['messages'][-1].content} + 30"}]}


builder = StateGraph(MessagesState)
builder.add_node("shout", shout)
builder.add_node("agent", RemoteGraph("chat_agent", url=url))
builder.add_edge(START, "shout")
builder.add_edge("shout", "agent")
local = builder.compile()
question = {"messages": [{"role": "user", "content": "12"}]}
for namespace, update in local.stream(question, stream_mode="updates", subgraphs=True):
    where = "/".join(part.partition(":")[0] for part in namespace) or "here"
    print(f"{where:<6} {', '.join(update)}")
print(local.invoke(question)["messages"][-1].content)

print("# its failures are exceptions")
try:
    RemoteGraph("minimal", url=url).invoke({"reply": "no text"})
except RemoteException as error:
    print(error)
