"""The compiled form of a flow document: plain, immutable data that `program` builds and `tasks` executes.

`runner.evaluation.evaluator` implements the interfaces for expressions and schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

from typing_extensions import override

from flowhook.events.cloud_events import ReadAs
from flowhook.model import EventFilter
from flowhook.payloads.field_types import FieldTypes
from runner.interpreter import call_arguments
from runner.interpreter.call_arguments import ArgumentPath
from runner.interpreter.scope import ExpressionScope

Template = Callable[[Any, ExpressionScope], Any]
"""A compiled value of a document: evaluates its expressions on data (jq's `.`) with the arguments of a scope.

Blocking. Returns the first result, null if absent; raises ExpressionFailed.
"""

Duration = int | Template  # milliseconds, or a template that yields a duration in the DSL's format

Validator = Callable[[Any, ExpressionScope], None]  # checks data; raises SchemaViolated


class Compiler(Protocol):
    """Creates templates and validators; both may be cached for the life of the process."""

    def template(self, value: Any) -> Template:
        """Compile a value in which strings of the form `${ ... }` are expressions."""
        ...

    def expression(self, value: Any) -> Template:
        """Compile a value that is an expression even without `${ }` when it is a string, else a template."""
        ...

    def schema(self, document: Any) -> Validator: ...


CONTINUE: Final = "continue"
EXIT: Final = "exit"
END: Final = "end"


@dataclass(frozen=True, slots=True)
class CompiledRetryPolicy:
    """A retry policy, compiled."""

    when: Template | None = None  # must be true for a retry; evaluated on the input of the attempt
    except_when: Template | None = None  # must not be true for a retry
    delay: Duration = 0
    delays: tuple[int, ...] = ()  # milliseconds before each retry, instead of `delay`; as many as `count`
    backoff: str = "constant"  # `constant`, `linear` (grows by `increment`, or by the delay) or `exponential` (doubles)
    increment: Duration | None = None
    max_delay: Duration | None = None  # longest delay that the backoff leads to
    jitter: tuple[Duration, Duration] | None = None  # bounds (from, to) of a random time that is added to the delay
    share_of_jitter: float = 0.0  # a random time of at most this share of the delay is added to it
    full_jitter: bool = False  # whether the delay is random, between zero and the delay of the backoff
    count: int | None = None  # maximum number of retries; None: unlimited
    attempt_duration: Duration | None = None  # timeout of one attempt
    duration: Duration | None = None  # time after the first failure within which a retry may start


# Most outages last for seconds, others for hours. Source of the delays from half an hour on, and of the jitter:
# Standard Webhooks, "Deliverability and reliability"
_WEBHOOK_SECONDS: Final = (
    *(1, 5, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 15, 30)),
    *(3600 * hours for hours in (2, 5, 10, 10)),
)

RETRY_PRESETS: Final[Mapping[str, CompiledRetryPolicy]] = {
    "webhook": CompiledRetryPolicy(
        delays=tuple(1000 * seconds for seconds in _WEBHOOK_SECONDS), share_of_jitter=0.2, count=len(_WEBHOOK_SECONDS)
    ),
    "quick": CompiledRetryPolicy(delay=1000, backoff="exponential", full_jitter=True, count=4),
}
"""The policies of `flowhook.document.definition.RETRY_PRESETS`."""

DEFAULT_RETRY: Final = "webhook"  # preset for transient failures of calls, unless flow or task sets another policy


@dataclass(frozen=True, slots=True)
class DataFlowStage:
    """One stage of data flow: a transformation and a schema, applied in the order of the stage."""

    transform: Template | None = None
    schema: Validator | None = None


@dataclass(frozen=True, slots=True)
class CompiledExtension:
    """Blocks that run before and after tasks of a kind for which `when` is true.

    `reads_clock`: whether an expression of the extension reads the time, which is that of the extended task.
    """

    kind: str
    when: Template | None
    before: Block | None
    after: Block | None
    reads_clock: bool

    def extends(self, kind: str) -> bool:
        return self.kind in ("all", kind) or (self.kind == "composite" and kind in ("do", "fork"))


@dataclass(slots=True)
class Node:
    """A task, compiled. Its subclasses are the kinds of tasks."""

    name: str
    pointer: str  # JSON Pointer of the task in the document
    definition: Mapping[str, Any]  # the task as written, for `$task.definition`
    condition: Template | None
    input: DataFlowStage
    output: DataFlowStage
    export: DataFlowStage
    then: str  # flow directive after the task
    timeout: Duration | None  # of the task; None: no timeout
    reads_clock: bool  # an expression of the task itself, or of its extensions, reads the time
    extensions: tuple[CompiledExtension, ...]  # that apply to the task, the outermost first
    # the task has no condition, transformation, schema or timeout, and does not read the time
    plain: bool = field(init=False)
    instant: bool = field(init=False)  # the task only evaluates expressions between its start and its end
    # tasks of this kind only evaluate expressions, extensions and the time aside
    only_evaluates: ClassVar[bool] = False
    always_requests: ClassVar[bool] = False  # tasks of this kind themselves may request something from outside
    always_waits: ClassVar[bool] = False  # tasks of this kind wait by their definition

    def __post_init__(self) -> None:
        self.instant = self.only_evaluates and not self.reads_clock and not self.extensions
        nothing = DataFlowStage()
        self.plain = (
            self.condition is None
            and self.timeout is None
            and not self.reads_clock
            and all(flow == nothing for flow in (self.input, self.output, self.export))
        )

    @property
    def blocks(self) -> tuple[Block, ...]:
        return ()

    @property
    def may_request(self) -> bool:
        """Whether the task may request anything from outside: an effect, the time, a wait."""
        requested = self.always_requests or self.reads_clock
        return requested or any(node.may_request for block in self.blocks for node in block.nodes)

    @property
    def waits(self) -> bool:
        """Whether the task waits by its definition, extensions aside."""
        return self.always_waits or any(node.waits for block in self.blocks for node in block.nodes)

    @property
    def resumes(self) -> bool:
        """Whether a snapshot may be taken while the task is running."""
        return bool(self.blocks)


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that run in sequence; `index` maps their names to positions."""

    nodes: tuple[Node, ...]
    index: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole workflow, compiled."""

    definition: Mapping[str, Any]
    input: DataFlowStage
    block: Block
    output: DataFlowStage
    secrets: tuple[str, ...]  # names under `use.secrets`, which `$secrets` holds
    callbacks: tuple[str, ...] = ()  # names of the flow's callbacks
    has_webhook: bool = False  # whether the input describes the request that started the flow
    takes_raw_body: bool = False  # whether the input has the body unparsed
    fields: FieldTypes = field(default_factory=dict)  # types of the fields of forms and queries in the input
    batches: bool = False  # whether the input is an array, of the inputs that several events have
    timeout: Duration | None = None
    input_reads_clock: bool = False
    output_reads_clock: bool = False


REPLY: Final = "reply"  # name of the function that replies to the sender


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
class BlockNode(Node):
    """Runs one block."""

    block: Block

    @property
    @override
    def blocks(self) -> tuple[Block, ...]:
        return (self.block,)


@dataclass(slots=True)
class DoNode(BlockNode):
    """Runs a block in a scope of its own."""


@dataclass(slots=True)
class RaiseNode(Node):
    """Raises the error that `value` evaluates to."""

    value: Template
    kind: call_arguments.Expand | None = None  # type of the error, where that is a URI template
    whole: bool = False  # `value` is one expression that yields the error with all its members, including `instance`


class ConsumingNode:
    """What tasks have in common that consume items, and may run tasks for each; a base beside `Node`."""

    __slots__ = ()
    foreach: ForeachBlock | None

    @property
    def blocks(self) -> tuple[Block, ...]:
        return () if self.foreach is None else (self.foreach.block,)

    @property
    def resumes(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """An authentication policy among the arguments of a call."""

    place: ArgumentPath  # path of the policy in the arguments, whose template has null there
    value: Template  # template of the policy; evaluated before the arguments, which may read `$authorization`
    # path and expansion of each URI in the policy that is a literal with `{variables}`
    uris: tuple[tuple[ArgumentPath, call_arguments.Expand], ...]
    is_own: bool  # whether the policy is for the call itself rather than for fetching a document


@dataclass(slots=True)
class EffectNode(Node):
    """Requests an effect. `retry`: policy for transient failures that no enclosing task catches."""

    always_requests: ClassVar[bool] = True

    retry: CompiledRetryPolicy


@dataclass(slots=True)
class ArgumentsNode(EffectNode):
    """Calls a function with arguments that an author wrote."""

    function: str
    arguments: Template  # `with`, evaluated as one template
    # path of the endpoint's URI, when it is a literal with `{variables}`, and its expansion from the input
    endpoint: tuple[ArgumentPath, call_arguments.Expand] | None
    policies: tuple[PolicyPart, ...]  # see `flowhook.document.definition.POLICIES`


@dataclass(slots=True)
class CallNode(ArgumentsNode):
    """Calls a function once."""

    passes_input: bool  # whether the task's output is its input, whatever the function returns


@dataclass(slots=True)
class SubscribeNode(ConsumingNode, ArgumentsNode):
    """Receives messages of a broker."""

    filter: Template | None
    amount: int | None
    while_condition: Template | None
    until: Template | None
    duration: Duration | None
    foreach: ForeachBlock | None


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
    @override
    def waits(self) -> bool:
        return self.awaited


@dataclass(slots=True)
class FunctionNode(BlockNode):
    """Runs a task of `use.functions` on the result of `arguments`."""

    arguments: Template


@dataclass(slots=True)
class WaitNode(Node):
    """Waits for a duration."""

    always_requests: ClassVar[bool] = True
    always_waits: ClassVar[bool] = True

    duration: Duration


@dataclass(slots=True)
class ForNode(BlockNode):
    """Runs a block for each item of the array that `items` yields, while `while_condition` is true."""

    each: str  # variable that holds the item
    at: str  # variable that holds its index
    items: Template
    items_are_constant: bool  # whether `items` yields the same on every evaluation: it reads nothing that tasks change
    while_condition: Template | None


@dataclass(slots=True)
class ForkNode(Node):
    """Runs branches, blocks of one task each, concurrently; with `compete` the first to succeed wins."""

    branches: tuple[Block, ...]
    compete: bool

    @property
    @override
    def blocks(self) -> tuple[Block, ...]:
        return self.branches


@dataclass(frozen=True, slots=True)
class CatchClause:
    """The `catch` of a `try`: the errors to catch, and how to handle them."""

    # members that the error must have; `type` is in the present form if it denotes a standard type
    filters: Mapping[str, Any]
    name: str  # name of the variable that holds the error
    when: Template | None
    except_when: Template | None
    retry: CompiledRetryPolicy | None
    block: Block | None
    then: str  # flow directive after an error was handled; empty: that of the task


@dataclass(slots=True)
class TryNode(BlockNode):
    """Runs a block and catches its errors."""

    catch: CatchClause

    @property
    @override
    def blocks(self) -> tuple[Block, ...]:
        return (self.block,) if self.catch.block is None else (self.block, self.catch.block)

    @property
    @override
    def waits(self) -> bool:
        return self.catch.retry is not None or any(node.waits for block in self.blocks for node in block.nodes)


@dataclass(frozen=True, slots=True)
class CompiledCorrelation:
    """A correlation of an event filter."""

    name: str
    path: str  # expression for the value in an event, in the form that the router accepts
    value: Template  # template that evaluates the path on an event
    # expected value, evaluated when the task starts to wait; None: the value of the first event
    expected: Template | None


@dataclass(frozen=True, slots=True)
class EventPattern:
    """An event filter, compiled."""

    literal: EventFilter  # part of the filter that the router can evaluate, without correlations
    # attribute names, each with the test that an event must pass: a predicate, or an expected value
    tests: tuple[tuple[str, Template], ...]
    correlations: tuple[CompiledCorrelation, ...]
    # predicate that selects types of lifecycle events, where the type is not a literal. The router sends lifecycle
    # events only to subscribers that name their type.
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
class ListenNode(ConsumingNode, Node):
    """Waits for events."""

    always_requests: ClassVar[bool] = True
    always_waits: ClassVar[bool] = True

    strategy: CompiledStrategy
    # end of the wait: an expression on what was consumed, or further events; None: `strategy` decides
    until: Template | CompiledStrategy | None
    read: ReadAs
    foreach: ForeachBlock | None
