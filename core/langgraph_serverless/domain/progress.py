"""What the earlier leases of a run have saved: where it goes on, and what of its request has been carried out already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of a run that has begun under an earlier lease."""

    #: It has a checkpoint of its own, from the newest of which it goes on.
    own: bool = False
    #: The step of the checkpoint from which it set out; -2 if its thread had none.
    base: int = -2
    #: Namespaces of the subgraphs that are in flight after the thread's newest checkpoint, each with those that it is in.
    spaces: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: What its command updates, or where it goes to, is stored with the thread's newest checkpoint, to which it was given.
    commanded: bool = False
    #: The same, but with an older checkpoint, which the client has named.
    commanded_back: bool = False
    #: The answer that its command has brought is stored in the same way, or has reached who had asked.
    resumed: bool = False
    #: The interrupts that its command has answered, each as a type and bytes of LangGraph's serialisation.
    answered: Sequence[tuple[str, bytes]] = ()
