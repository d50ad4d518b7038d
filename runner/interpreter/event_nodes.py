"""The node of `listen`, and the event filters and correlations in it."""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.model import EventFilter
from runner.interpreter.nodes import Block, DataFlowStage, Node
from runner.interpreter.ports import Template


@dataclass(frozen=True, slots=True)
class CompiledCorrelation:
    """A correlation of an event filter.

    Attributes:
        path: expression for the value in an event, in the form that the router accepts.
        value: template that evaluates the path on an event.
        expected: expected value, evaluated when the task starts to wait; None: the value of the first event.
    """

    name: str
    path: str
    value: Template
    expected: Template | None


@dataclass(frozen=True, slots=True)
class EventPattern:
    """An event filter, compiled.

    Attributes:
        literal: part of the filter that the router can evaluate, without correlations.
        tests: attribute names, each with the test that an event must pass: a predicate, or an expected value.
        correlations: its correlations.
        lifecycle_type: predicate that selects types of lifecycle events, where the type is not a literal. The router
            sends lifecycle events only to subscribers that name their type.
    """

    literal: EventFilter
    tests: tuple[tuple[str, Template], ...]
    correlations: tuple[CompiledCorrelation, ...]
    lifecycle_type: Template | None = None


@dataclass(frozen=True, slots=True)
class CompiledStrategy:
    """Event consumption strategy: one event that matches any of the patterns, or with `all` one event for each."""

    patterns: tuple[EventPattern, ...]
    all: bool


@dataclass(frozen=True, slots=True)
class ForeachBlock:
    """Block to run for each event; see `ForNode` for the names."""

    each: str
    at: str
    block: Block
    output: DataFlowStage
    export: DataFlowStage


@dataclass(slots=True)
class ListenNode(Node):
    """Waits for events.

    Attributes:
        strategy: selects the events.
        until: end of the wait: an expression on what was consumed, or further events; None: `strategy` decides.
        read: part of an event to read: `data`, `envelope` or `raw`.
        foreach: block to run for each event; None: none.
    """

    strategy: CompiledStrategy
    until: Template | CompiledStrategy | None
    read: str
    foreach: ForeachBlock | None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return () if self.foreach is None else (self.foreach.block,)

    @property
    def may_request(self) -> bool:
        """See `Node`."""
        return True

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return True

    @property
    def resumes(self) -> bool:
        """See `Node`."""
        return True
