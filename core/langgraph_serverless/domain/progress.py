"""What the earlier leases of a run have saved: where it goes on, and what of its request has been carried out already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of a run that has begun under an earlier lease."""

    #: It has a checkpoint of its own, from the newest of which it goes on.
    own: bool = False
    #: The step of the checkpoint from which it set out; -2 if its thread had none.
    base: int = -2
    #: Namespaces of the subgraphs that the superstep after the thread's newest checkpoint has begun.
    spaces: frozenset[str] = frozenset()
    #: Its command is stored with the thread's newest checkpoint, to which it was given.
    commanded: bool = False
    #: The interrupts that its command has answered, each as a type and bytes of LangGraph's serialisation.
    answered: Sequence[tuple[str, bytes]] = ()
