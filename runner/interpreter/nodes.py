"""What a flow document is compiled to: plain, immutable data that `program` makes and `tasks` executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowhook.model import EventFilter
from runner.interpreter import uri_template
from runner.interpreter.places import Place
from runner.interpreter.ports import Duration, Template, Validator
from runner.interpreter.retrying import Retry

CONTINUE: Final = "continue"
EXIT: Final = "exit"
END: Final = "end"

REPLY: Final = "reply"
"""The function that answers the sender."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One stage of data flow: transform and validate, in the order that the stage asks for; see `tasks`."""

    transform: Template | None = None
    schema: Validator | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """What runs before and after tasks of a kind for which `when` is true.

    `looks_at_clock`: whether an expression of it reads the time, that of the extended task.
    """

    kind: str
    when: Template | None
    before: Block | None
    after: Block | None
    looks_at_clock: bool

    def extends(self, kind: str) -> bool:
        """Whether it is for tasks of a kind."""
        return self.kind in ("all", kind) or (self.kind == "composite" and kind in ("do", "fork"))


@dataclass(slots=True)
class Node:
    """A task, compiled. Its subclasses are the kinds of tasks; `tasks` executes them.

    Attributes:
        pointer: JSON Pointer of the task in the document.
        definition: the task as written, for `$task.definition`.
        then: flow directive after the task.
        timeout: that the task has.
        looks_at_clock: whether an expression of the task itself reads the time.
        extensions: of the task, the outermost first.
        plain: nothing surrounds the task itself: no condition, no transformation, no schema, no time.
        instant: nothing happens from its begin to its end but expressions.
    """

    name: str
    pointer: str
    definition: Mapping[str, Any]
    condition: Template | None
    input: Flow
    output: Flow
    export: Flow
    then: str
    timeout: Duration | None
    looks_at_clock: bool
    extensions: tuple[Extension, ...]
    plain: bool = field(init=False)
    instant: bool = field(init=False)

    def __post_init__(self) -> None:
        self.instant = isinstance(self, SetNode | SwitchNode) and not self.looks_at_clock and not self.extensions
        nothing = Flow()
        self.plain = (
            self.condition is None
            and self.timeout is None
            and not self.looks_at_clock
            and all(flow == nothing for flow in (self.input, self.output, self.export))
        )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What the task runs."""
        return ()

    @property
    def asks(self) -> bool:
        """Whether the task may ask for anything from outside: an effect, the time, a wait."""
        return self.looks_at_clock or any(node.asks for block in self.blocks for node in block.nodes)

    @property
    def waits(self) -> bool:
        """Whether the task is written to wait; what extends it left aside."""
        return any(node.waits for block in self.blocks for node in block.nodes)

    @property
    def resumes(self) -> bool:
        """Whether a snapshot may be taken while the task is under way."""
        return bool(self.blocks)


@dataclass(slots=True)
class SetNode(Node):
    """Replaces the data by what `value` evaluates to."""

    value: Template


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch; without `when` it is the default one."""

    when: Template | None
    then: str


@dataclass(slots=True)
class SwitchNode(Node):
    """Chooses where to go on. `cases` in order, the default one last."""

    cases: tuple[Case, ...]


@dataclass(slots=True)
class DoNode(Node):
    """Runs a block in a scope of its own."""

    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What the task runs."""
        return (self.block,)


@dataclass(slots=True)
class RaiseNode(Node):
    """Raises the error that `value` evaluates to.

    Attributes:
        kind: its type, where that is a URI template.
        whole: `value` is one expression, which yields the error with all its members, its instance too.
    """

    value: Template
    kind: uri_template.Expand | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """An authentication policy among the arguments of a call.

    Attributes:
        place: where it is; the template of the arguments has nothing there.
        value: evaluates it, before the arguments, which may look at `$authorization`.
        uris: those of it that are written as literals with `{variables}`: where they are, and what fills them.
        is_own: whether it is that of the call itself rather than that of a document.
    """

    place: Place
    value: Template
    uris: tuple[tuple[Place, uri_template.Expand], ...]
    is_own: bool


@dataclass(slots=True)
class EffectNode(Node):
    """Has something done outside. `retry`: policy for failures that are transient and that nothing catches."""

    retry: Retry

    @property
    def asks(self) -> bool:
        """See `Node`."""
        return True


@dataclass(slots=True)
class CallNode(EffectNode):
    """Calls a function.

    Attributes:
        arguments: `with`, evaluated as one template.
        endpoint: where the endpoint's URI is, when it is written as a literal with `{variables}`, and what fills
            them from the input.
        policies: that are among the arguments; see `places.POLICIES`.
        hands_on: the task's output is its input, whatever the function returns.
    """

    function: str
    arguments: Template
    endpoint: tuple[Place, uri_template.Expand] | None
    policies: tuple[PolicyPart, ...]
    hands_on: bool


@dataclass(slots=True)
class EmitNode(EffectNode):
    """Publishes an event. `event`: what is given of it; `sink`: a URL that it is sent to as well."""

    event: Template
    sink: Template | None


@dataclass(slots=True)
class RunNode(EffectNode):
    """Runs another flow. `awaited`: its output is the task's, or null when nothing is to be returned."""

    flow_id: str
    version: str
    given: Template
    awaited: bool
    returns: bool

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return self.awaited


@dataclass(slots=True)
class FunctionNode(Node):
    """Runs a task of `use.functions` on what `arguments` evaluates to."""

    arguments: Template
    block: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,)


@dataclass(slots=True)
class WaitNode(Node):
    """Lets time pass."""

    duration: Duration

    @property
    def asks(self) -> bool:
        """See `Node`."""
        return True

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return True


@dataclass(slots=True)
class ForNode(Node):
    """Runs a block for each item of what `items` evaluates to, for as long as `going` is true.

    Attributes:
        each: name of the variable that holds the item.
        at: name of the variable that holds its index.
        items_stay: whether `items` yields the same whenever it is evaluated: it looks at nothing that tasks change.
    """

    each: str
    at: str
    items: Template
    items_stay: bool
    going: Template | None
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
class Link:
    """A correlation of an event filter.

    Attributes:
        path: to the value in an event, as the router takes it.
        value: evaluates it over an event.
        expected: what it has to be, evaluated when the waiting begins; None: what the first event has.
    """

    name: str
    path: str
    value: Template
    expected: Template | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """An event filter, compiled.

    Attributes:
        literal: what the router can look at, but for correlations.
        tests: attributes by name, each with what an event has to have there: a predicate, or a value.
        links: its correlations.
        told: which events about executions it asks for, where the type is no literal: whether it does for a type of
            them, for the router tells of those to nobody who has not named them.
    """

    literal: EventFilter
    tests: tuple[tuple[str, Template], ...]
    links: tuple[Link, ...]
    told: Template | None = None


@dataclass(frozen=True, slots=True)
class Strategy:
    """Which events are waited for: one that any of the patterns takes, or with `all` one for each."""

    patterns: tuple[Pattern, ...]
    all: bool


@dataclass(frozen=True, slots=True)
class Iterator:
    """What is done with each event; see `ForNode` for the names."""

    each: str
    at: str
    block: Block
    output: Flow
    export: Flow


@dataclass(slots=True)
class ListenNode(Node):
    """Waits for events.

    Attributes:
        strategy: which.
        until: what ends the waiting: an expression over what was consumed, or events; None: what `strategy` says.
        read: what events are read as: `data`, `envelope` or `raw`.
        foreach: what is done with each.
    """

    strategy: Strategy
    until: Template | Strategy | None
    read: str
    foreach: Iterator | None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return () if self.foreach is None else (self.foreach.block,)

    @property
    def asks(self) -> bool:
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


@dataclass(frozen=True, slots=True)
class Catch:
    """What a `try` catches and what it does then.

    Attributes:
        filters: members of the error that have to be equal; `type` is a standard one, if it means one.
        name: of the variable that holds the error.
    """

    filters: Mapping[str, Any]
    name: str
    when: Template | None
    except_when: Template | None
    retry: Retry | None
    block: Block | None


@dataclass(slots=True)
class TryNode(Node):
    """Runs a block and catches its errors."""

    block: Block
    catch: Catch

    @property
    def blocks(self) -> tuple[Block, ...]:
        """See `Node`."""
        return (self.block,) if self.catch.block is None else (self.block, self.catch.block)

    @property
    def waits(self) -> bool:
        """See `Node`."""
        return self.catch.retry is not None or any(node.waits for block in self.blocks for node in block.nodes)


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that run one after another; `index` finds them by name."""

    nodes: tuple[Node, ...]
    index: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole workflow, compiled."""

    definition: Mapping[str, Any]
    input: Flow
    block: Block
    output: Flow
    secrets: tuple[str, ...]
    """Names under `use.secrets`: what `$secrets` holds."""
    timeout: Duration | None = None
    input_looks_at_clock: bool = False
    output_looks_at_clock: bool = False
