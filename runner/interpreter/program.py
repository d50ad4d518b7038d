"""A flow document, compiled: what is the same for all its executions is done once.

A `Program` is made of the canonical definition (plain JSON types that were checked when the flow was applied) and is
immutable; executions share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flowhook.document.duration import parse_duration
from flowhook.expressions import is_expression
from runner.interpreter import places, retrying, uri_template
from runner.interpreter.clock import looks_at_clock
from runner.interpreter.errors import standard_type
from runner.interpreter.places import Place
from runner.interpreter.ports import Compiler, Duration, Template, Validator
from runner.interpreter.retrying import Retry

CONTINUE: Final = "continue"
EXIT: Final = "exit"
END: Final = "end"

REPLY: Final = "reply"
"""The function that answers the sender: its task hands on its input."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One stage of data flow: transform and validate, in the order that the stage asks for; see `tasks`."""

    transform: Template | None = None
    schema: Validator | None = None


@dataclass(slots=True)
class Node:
    """A task, compiled. Its subclasses are the kinds of tasks; `tasks` executes them.

    Attributes:
        pointer: JSON Pointer of the task in the document.
        definition: the task as written, for `$task.definition`.
        then: flow directive after the task.
        timeout: that the task has.
        looks_at_clock: whether an expression of the task itself reads the time.
        plain: nothing surrounds the task itself: no condition, no transformation, no schema, no time.
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
    plain: bool = field(init=False)

    def __post_init__(self) -> None:
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
        """Whether the task is written to wait."""
        return any(node.waits for block in self.blocks for node in block.nodes)


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
    """Raises the error that `value` evaluates to. `kind`: its type, where that is a URI template."""

    value: Template
    kind: uri_template.Expand | None


@dataclass(slots=True)
class CallNode(Node):
    """Calls a function.

    Attributes:
        arguments: `with`, evaluated as one template.
        retry: policy for failures that are transient and that nothing catches.
        endpoint: where the endpoint's URI is, when it is written as a literal with `{variables}`, and what fills
            them from the input.
        policies: where there are authentication policies; see `places.POLICIES`.
    """

    function: str
    arguments: Template
    retry: Retry
    endpoint: tuple[Place, uri_template.Expand] | None
    policies: tuple[Place, ...]

    @property
    def asks(self) -> bool:
        """See `Node`."""
        return True


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
    """

    each: str
    at: str
    items: Template
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


def compile_program(definition: Mapping[str, Any], compiler: Compiler) -> Program:
    """Compile a checked definition.

    Expressions are compiled when they are first evaluated, because only then the guard watches.

    Args:
        definition: the document as canonical, plain JSON.
        compiler: makes templates and validators.
    """
    return _Builder(definition, compiler).program()


class _Builder:
    """Walks one definition."""

    def __init__(self, definition: Mapping[str, Any], compiler: Compiler) -> None:
        self._definition = definition
        self._compiler = compiler
        self._use: Mapping[str, Any] = definition.get("use") or {}
        self._functions: dict[str, Block] = {}
        retry = (definition.get("execution") or {}).get("retry")
        self._retry = retrying.DEFAULT if retry is None else self._policy(retry)

    def program(self) -> Program:
        """Return the whole."""
        definition = self._definition
        return Program(
            definition=definition,
            input=self._flow(definition.get("input"), "from"),
            block=self._block(definition["do"], "/do"),
            output=self._flow(definition.get("output"), "as"),
            secrets=tuple(self._use.get("secrets") or ()),
            timeout=self._timeout(definition.get("timeout")),
            input_looks_at_clock=looks_at_clock(definition.get("input") or {}),
            output_looks_at_clock=looks_at_clock(definition.get("output") or {}),
        )

    def _block(self, items: Sequence[Mapping[str, Any]], pointer: str) -> Block:
        nodes = []
        for position, item in enumerate(items):
            ((name, task),) = item.items()
            nodes.append(self._node(name, task, f"{pointer}/{position}/{_escape(name)}"))
        return Block(tuple(nodes), {node.name: index for index, node in enumerate(nodes)})

    def _node(self, name: str, task: Mapping[str, Any], pointer: str) -> Node:
        condition = task.get("if")
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "definition": task,
            "condition": None if condition is None else self._compiler.expression(condition),
            "input": self._flow(task.get("input"), "from"),
            "output": self._flow(task.get("output"), "as"),
            "export": self._flow(task.get("export"), "as"),
            "then": task.get("then") or CONTINUE,
            "timeout": self._timeout(task.get("timeout")),
            "looks_at_clock": looks_at_clock(task),
        }
        match task:
            case {"set": value}:
                return SetNode(**common, value=self._compiler.template(value))
            case {"switch": cases}:
                return SwitchNode(**common, cases=self._cases(cases))
            case {"call": function} if function in self._use.get("functions", ()):
                given = self._compiler.template(task.get("with") or {})
                return FunctionNode(**common, arguments=given, block=self._function(function))
            case {"call": function}:
                arguments, policies = self._arguments(function, task.get("with") or {})
                return CallNode(
                    **common,
                    function=function,
                    arguments=self._compiler.template(arguments),
                    retry=self._call_retry(task),
                    endpoint=_literal_endpoint(function, arguments),
                    policies=policies,
                )
            case {"raise": {"error": error}}:
                named = self._use["errors"][error] if isinstance(error, str) else error
                kind = uri_template.compile_uri(named["type"])
                return RaiseNode(**common, value=self._compiler.template(named), kind=kind)
        return self._composite(common, task, pointer)

    def _composite(self, common: dict[str, Any], task: Mapping[str, Any], pointer: str) -> Node:
        match task:
            case {"for": loop, "do": items}:
                going = task.get("while")
                return ForNode(
                    **common,
                    each=loop.get("each") or "item",
                    at=loop.get("at") or "index",
                    items=self._compiler.expression(loop["in"]),
                    going=None if going is None else self._compiler.expression(going),
                    block=self._block(items, f"{pointer}/do"),
                )
            case {"do": items}:
                return DoNode(**common, block=self._block(items, f"{pointer}/do"))
            case {"wait": duration}:
                return WaitNode(**common, duration=self._duration(duration))
            case {"try": items, "catch": catch}:
                block = self._block(items, f"{pointer}/try")
                return TryNode(**common, block=block, catch=self._catch(catch, f"{pointer}/catch"))
            case {"fork": fork}:
                return ForkNode(
                    **common,
                    branches=self._branches(fork["branches"], f"{pointer}/fork/branches"),
                    compete=bool(fork.get("compete")),
                )
        raise ValueError(f"{pointer}: no kind of task that this version executes")

    def _arguments(self, function: str, arguments: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Place, ...]]:
        """Return `with` and where it has authentication policies; those that are names are looked up."""
        found = []
        for place in places.POLICIES.get(function, ()):
            policy = places.find(arguments, place)
            if isinstance(policy, Mapping):
                if "use" in policy:
                    arguments = places.put(arguments, place, self._use["authentications"][policy["use"]])
                found.append(place)
        return arguments, tuple(found)

    def _branches(self, items: Sequence[Mapping[str, Any]], pointer: str) -> tuple[Block, ...]:
        nodes = self._block(items, pointer).nodes
        return tuple(Block((node,), {node.name: 0}) for node in nodes)

    def _function(self, name: str) -> Block:
        """Return a function of the workflow's own, as a block of one task that its calls share."""
        block = self._functions.get(name)
        if block is None:
            node = self._node(name, self._use["functions"][name], f"/use/functions/{_escape(name)}")
            block = self._functions[name] = Block((node,), {name: 0})
        return block

    def _catch(self, catch: Mapping[str, Any], pointer: str) -> Catch:
        filters = dict((catch.get("errors") or {}).get("with") or {})
        if "type" in filters:
            filters["type"] = standard_type(filters["type"])
        if "details" in filters:
            filters["detail"] = filters.pop("details")
        retry, tasks = catch.get("retry"), catch.get("do")
        return Catch(
            filters=filters,
            name=catch.get("as") or "error",
            when=self._optional(catch.get("when")),
            except_when=self._optional(catch.get("exceptWhen")),
            retry=None if retry is None else self._policy(retry),
            block=None if tasks is None else self._block(tasks, f"{pointer}/do"),
        )

    def _call_retry(self, task: Mapping[str, Any]) -> Retry:
        metadata = task.get("metadata") or {}
        return self._policy(metadata["retry"]) if "retry" in metadata else self._retry

    def _policy(self, given: Mapping[str, Any] | str) -> Retry:
        policy: Mapping[str, Any] = self._use["retries"][given] if isinstance(given, str) else given
        limit, jitter, backoff = policy.get("limit") or {}, policy.get("jitter"), policy.get("backoff") or {}
        attempt = limit.get("attempt") or {}
        increment = (backoff.get("linear") or {}).get("increment")
        return Retry(
            when=self._optional(policy.get("when")),
            except_when=self._optional(policy.get("exceptWhen")),
            delay=self._duration(policy.get("delay", {"seconds": 0})),
            backoff=next(iter(backoff), "constant"),
            increment=None if increment is None else self._duration(increment),
            jitter=None if jitter is None else (self._duration(jitter["from"]), self._duration(jitter["to"])),
            count=attempt.get("count"),
            attempt_duration=None if "duration" not in attempt else self._duration(attempt["duration"]),
            duration=None if "duration" not in limit else self._duration(limit["duration"]),
        )

    def _timeout(self, timeout: Mapping[str, Any] | str | None) -> Duration | None:
        if timeout is None:
            return None
        named: Mapping[str, Any] = self._use["timeouts"][timeout] if isinstance(timeout, str) else timeout
        return self._duration(named["after"])

    def _duration(self, duration: Any) -> Duration:
        if is_expression(duration):
            return self._compiler.expression(duration)
        return round(parse_duration(duration) * 1000)

    def _optional(self, expression: Any) -> Template | None:
        return None if expression is None else self._compiler.expression(expression)

    def _cases(self, items: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
        cases = []
        for item in items:
            (case,) = item.values()
            when = case.get("when")
            cases.append(Case(None if when is None else self._compiler.expression(when), case.get("then") or CONTINUE))
        return tuple(sorted(cases, key=lambda case: case.when is None))

    def _flow(self, declared: Mapping[str, Any] | None, key: str) -> Flow:
        if not declared:
            return Flow()
        transform, schema = declared.get(key), declared.get("schema")
        return Flow(
            None if transform is None else self._compiler.expression(transform),
            None if schema is None else self._compiler.schema(schema["document"]),
        )


def _literal_endpoint(function: str, arguments: Mapping[str, Any]) -> tuple[Place, uri_template.Expand] | None:
    place = places.ENDPOINTS.get(function)
    if place is None:
        return None
    if isinstance(places.find(arguments, place), Mapping):
        place = (*place, "uri")
    uri = places.find(arguments, place)
    expand = uri_template.compile_uri(uri) if isinstance(uri, str) else None
    return None if expand is None else (place, expand)


def _escape(name: str) -> str:
    """Return a name as a reference token. Source: RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")
