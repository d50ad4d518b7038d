"""Values for links between executions: which one caused which.

A causing execution is named by its ID, not by its number: it may be in another shard, or removed before the ones that
it caused. What is stored belongs to the caused execution, in its shard.
"""

from __future__ import annotations

from typing import NamedTuple

from flowhook.model.executions import LinkKind


class Cause(NamedTuple):
    """An execution that caused another one, and how."""

    execution_id: str
    kind: LinkKind


class EventReceived(NamedTuple):
    """An execution received an arrival; its emitter, if it has one, is stored as a cause.

    It is written in one `write` with the change that delivers the arrival, and not after `Consumed`; a second one is a
    no-op. For an execution that has ended it is one, too. Of many emitters, the `limits.MAX_LINKED_EMITTERS` newest are
    retained.

    Attributes:
        seq: the execution.
        number: of the arrival.
    """

    seq: int
    number: int


class StoredLink(NamedTuple):
    """An execution at the other end of a link, and how one of the two caused the other."""

    execution_id: str
    kinds: tuple[LinkKind, ...]


class StoredLinks(NamedTuple):
    """The executions that caused one, and those that it caused; both newest first."""

    causes: list[StoredLink]
    caused: list[StoredLink]
