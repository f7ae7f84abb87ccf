"""The tree of a run, made of its lifecycle events."""

from __future__ import annotations

from langgraph_serverless.domain.agent_tree import AgentTree
from langgraph_serverless.domain.protocol_events import ProtocolEvent
from langgraph_serverless.domain.protocol_records import record


def lived(
    seq: int, event: str, *namespace: str, graph_name: str | None = None, method: str = "lifecycle"
) -> ProtocolEvent:
    data = {"event": event} | ({"graph_name": graph_name} if graph_name else {})
    made = record(method, namespace, 0, data)
    return ProtocolEvent(seq, f"{seq}-0", method, namespace, made.data)


def test_a_run_with_subgraphs_and_the_next_one() -> None:
    tree = AgentTree()
    assert tree.document() is None
    tree.see(lived(1, "running", graph_name="parent"))
    tree.see(lived(2, "started", "child:1", graph_name="child"))
    tree.see(lived(3, "started", "child:1", "deep:2", graph_name="deep"))
    tree.see(lived(4, "completed", "child:1", "deep:2"))
    tree.see(lived(5, "whatever", method="values"))
    again = lived(2, "interrupted", "child:1")
    tree.see(again)  # a thread is read again from its beginning
    deep = {"namespace": ["child:1", "deep:2"], "status": "completed", "graph_name": "deep"}
    child = {"namespace": ["child:1"], "status": "started", "graph_name": "child", "children": [deep]}
    assert tree.document() == {"namespace": [], "status": "running", "graph_name": "parent", "children": [child]}
    tree.see(lived(6, "running", graph_name="parent"))
    assert tree.document() == {"namespace": [], "status": "running", "graph_name": "parent"}
