"""Domain types of links between executions: which one caused which, and how."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from flowhook.model import Status


class LinkKind(enum.StrEnum):
    """How one execution caused another.

    Events of an execution are those that it emitted, and its lifecycle events.
    """

    RUN = "run"
    """Its `run` task started the other one."""
    EVENT = "event"
    """Its event started the other one, alone or together with others."""
    LISTEN = "listen"
    """Its event was received by a `listen` task of the other one."""


class LinkedExecution(NamedTuple):
    """An execution at the other end of a link.

    Attributes:
        execution_id: its ID.
        kinds: how one of the two caused the other; at least one.
        flow_id: ID of its flow; empty: it is past retention or was deleted.
        status: None where `flow_id` is empty.
    """

    execution_id: str
    kinds: tuple[LinkKind, ...]
    flow_id: str = ""
    status: Status | None = None


class ExecutionLinks(NamedTuple):
    """The executions that caused one, and those that it caused; both newest first.

    Attributes:
        causes: those that started it, or whose events it received.
        caused: those that it started, or that received its events; the newest ones.
        more_caused: whether there are more of these.
    """

    causes: tuple[LinkedExecution, ...] = ()
    caused: tuple[LinkedExecution, ...] = ()
    more_caused: bool = False

    def merged(self, other: ExecutionLinks, *, most_caused: int) -> ExecutionLinks:
        """Return the links of two executions together, each execution once; of those caused at most a number."""
        causes = {each.execution_id: each for each in (*self.causes, *other.causes)}
        caused = {each.execution_id: each for each in (*self.caused, *other.caused)}
        kept = tuple(caused.values())[:most_caused]
        more = self.more_caused or other.more_caused or len(caused) > most_caused
        return ExecutionLinks(tuple(causes.values()), kept, more)


NO_LINKS: Final = ExecutionLinks()
"""Of an execution that no other one caused, and that caused none."""
