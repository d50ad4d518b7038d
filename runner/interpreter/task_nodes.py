"""Nodes of all kinds of tasks but `listen`, which is in `event_nodes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from runner.interpreter import uri_template
from runner.interpreter.argument_paths import ArgumentPath
from runner.interpreter.nodes import Block, Node
from runner.interpreter.ports import Duration, Template
from runner.interpreter.retry_policy import CompiledRetryPolicy

REPLY: Final = "reply"
"""Name of the function that replies to the sender."""


@dataclass(slots=True)
class SetNode(Node):
    """Replaces the data with the result of `value`."""

    only_evaluates: ClassVar[bool] = True

    value: Template


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch; the default case has no `when`."""

    when: Template | None
    then: str


@dataclass(slots=True)
class SwitchNode(Node):
    """Chooses the next flow directive. `cases` are in order, the default case last."""

    only_evaluates: ClassVar[bool] = True

    cases: tuple[Case, ...]


@dataclass(slots=True)
class DoNode(Node):
    """Runs a block in a scope of its own."""

    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,)


@dataclass(slots=True)
class RaiseNode(Node):
    """Raises the error that `value` evaluates to.

    Attributes:
        kind: type of the error, where that is a URI template.
        whole: whether `value` is one expression that yields the error with all its members, including `instance`.
    """

    value: Template
    kind: uri_template.Expand | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """An authentication policy among the arguments of a call.

    Attributes:
        place: path of the policy in the arguments, whose template has null there.
        value: template of the policy; evaluated before the arguments, which may read `$authorization`.
        uris: path and expansion of each URI in the policy that is a literal with `{variables}`.
        is_own: whether the policy is for the call itself rather than for fetching a document.
    """

    place: ArgumentPath
    value: Template
    uris: tuple[tuple[ArgumentPath, uri_template.Expand], ...]
    is_own: bool


@dataclass(slots=True)
class EffectNode(Node):
    """Requests an effect. `retry`: policy for transient failures that no enclosing task catches."""

    retry: CompiledRetryPolicy

    @property
    def may_request(self) -> bool:
        """See `Node`."""
        return True


@dataclass(slots=True)
class CallNode(EffectNode):
    """Calls a function.

    Attributes:
        arguments: `with`, evaluated as one template.
        endpoint: path of the endpoint's URI, when it is a literal with `{variables}`, and its expansion from the input.
        policies: authentication policies among the arguments; see `argument_paths.POLICIES`.
        passes_input: whether the task's output is its input, whatever the function returns.
    """

    function: str
    arguments: Template
    endpoint: tuple[ArgumentPath, uri_template.Expand] | None
    policies: tuple[PolicyPart, ...]
    passes_input: bool


@dataclass(slots=True)
class EmitNode(EffectNode):
    """Publishes an event. `event`: its attributes and data as defined; `sink`: a URL that receives it as well."""

    event: Template
    sink: Template | None


@dataclass(slots=True)
class RunNode(EffectNode):
    """Runs another flow. `awaited`: wait for its end; its output is the task's, or null unless `returns`."""

    flow_id: str
    version: str
    flow_input: Template
    awaited: bool
    returns: bool

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return self.awaited


@dataclass(slots=True)
class FunctionNode(Node):
    """Runs a task of `use.functions` on the result of `arguments`."""

    arguments: Template
    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,)


@dataclass(slots=True)
class WaitNode(Node):
    """Waits for a duration."""

    duration: Duration

    @property
    def may_request(self) -> bool:
        """See `Node`."""
        return True

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return True


@dataclass(slots=True)
class ForNode(Node):
    """Runs a block for each item of the array that `items` yields, while `while_condition` is true.

    Attributes:
        each: name of the variable that holds the item.
        at: name of the variable that holds its index.
        items_are_constant: whether `items` yields the same on every evaluation: it reads nothing that tasks change.
    """

    each: str
    at: str
    items: Template
    items_are_constant: bool
    while_condition: Template | None
    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,)


@dataclass(slots=True)
class ForkNode(Node):
    """Runs branches, blocks of one task each, concurrently; with `compete` the first to succeed wins."""

    branches: tuple[Block, ...]
    compete: bool

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return self.branches


@dataclass(frozen=True, slots=True)
class CatchClause:
    """The `catch` of a `try`: the errors to catch, and how to handle them.

    Attributes:
        filters: members that the error must have; `type` is in the present form if it denotes a standard type.
        name: name of the variable that holds the error.
    """

    filters: Mapping[str, Any]
    name: str
    when: Template | None
    except_when: Template | None
    retry: CompiledRetryPolicy | None
    block: Block | None


@dataclass(slots=True)
class TryNode(Node):
    """Runs a block and catches its errors."""

    block: Block
    catch: CatchClause

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,) if self.catch.block is None else (self.block, self.catch.block)

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return self.catch.retry is not None or any(node.waits for block in self.blocks for node in block.nodes)
