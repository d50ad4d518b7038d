"""A flow document, compiled: what is the same for all its executions is done once.

A `Program` is made of the canonical definition (plain JSON types that were checked when the flow was applied) and is
immutable; executions share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runner.interpreter import uri_template
from runner.interpreter.ports import Compiler, Template, Validator

CONTINUE: Final = "continue"
EXIT: Final = "exit"
END: Final = "end"


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
        plain: nothing surrounds the task itself: no condition, no transformation, no schema.
    """

    name: str
    pointer: str
    definition: Mapping[str, Any]
    condition: Template | None
    input: Flow
    output: Flow
    export: Flow
    then: str
    plain: bool = field(init=False)

    def __post_init__(self) -> None:
        nothing = Flow()
        self.plain = self.condition is None and all(flow == nothing for flow in (self.input, self.output, self.export))


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
        endpoint: for `http`, when its endpoint is written as a literal: fills its `{variables}` from the input.
        authenticates: whether the endpoint has an authentication policy.
    """

    function: str
    arguments: Template
    endpoint: uri_template.Expand | None
    authenticates: bool


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

    def program(self) -> Program:
        """Return the whole."""
        definition = self._definition
        return Program(
            definition=definition,
            input=self._flow(definition.get("input"), "from"),
            block=self._block(definition["do"], "/do"),
            output=self._flow(definition.get("output"), "as"),
            secrets=tuple(self._use.get("secrets") or ()),
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
        }
        match task:
            case {"set": value}:
                return SetNode(**common, value=self._compiler.template(value))
            case {"switch": cases}:
                return SwitchNode(**common, cases=self._cases(cases))
            case {"call": function}:
                arguments, policy = self._arguments(function, task.get("with") or {})
                return CallNode(
                    **common,
                    function=function,
                    arguments=self._compiler.template(arguments),
                    endpoint=_literal_endpoint(arguments) if function == "http" else None,
                    authenticates=policy is not None,
                )
            case {"raise": {"error": error}}:
                named = self._use["errors"][error] if isinstance(error, str) else error
                kind = uri_template.compile_uri(named["type"])
                return RaiseNode(**common, value=self._compiler.template(named), kind=kind)
            case {"do": items}:
                return DoNode(**common, block=self._block(items, f"{pointer}/do"))
        raise ValueError(f"{pointer}: no kind of task that this version executes")

    def _arguments(self, function: str, arguments: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
        """Return `with` and the authentication policy in it, which is looked up when it is a name."""
        endpoint = arguments.get("endpoint")
        if function != "http" or not isinstance(endpoint, Mapping) or "authentication" not in endpoint:
            return arguments, None
        policy = endpoint["authentication"]
        if "use" in policy:
            policy = self._use["authentications"][policy["use"]]
        return {**arguments, "endpoint": {**endpoint, "authentication": policy}}, policy

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


def _literal_endpoint(arguments: Mapping[str, Any]) -> uri_template.Expand | None:
    endpoint = arguments.get("endpoint")
    uri = endpoint.get("uri") if isinstance(endpoint, Mapping) else endpoint
    return uri_template.compile_uri(uri) if isinstance(uri, str) else None


def _escape(name: str) -> str:
    """Return a name as a reference token. Source: RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")
