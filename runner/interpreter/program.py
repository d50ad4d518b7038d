"""Compiler from a flow document to a `Program`, which all executions of the flow share.

A `Program` is built from the canonical definition: plain JSON types, checked when the flow was applied. It is
immutable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from flowhook.document.definition import flow_id, kind_of
from flowhook.document.quantities import parse_duration
from flowhook.expressions import is_expression
from runner.interpreter import call_arguments
from runner.interpreter.call_arguments import ArgumentPath
from runner.interpreter.clock_detection import reads_clock, task_reads_clock
from runner.interpreter.effects import INTERNAL
from runner.interpreter.errors import standard_type
from runner.interpreter.events import compile_strategy
from runner.interpreter.nodes import (
    CONTINUE,
    DEFAULT_RETRY_POLICY,
    REPLY,
    Block,
    CallNode,
    Case,
    CatchClause,
    CompiledExtension,
    CompiledRetryPolicy,
    Compiler,
    DataFlowStage,
    DoNode,
    Duration,
    EmitNode,
    ForeachBlock,
    ForkNode,
    ForNode,
    FunctionNode,
    ListenNode,
    Node,
    PolicyPart,
    Program,
    RaiseNode,
    RunNode,
    SetNode,
    SwitchNode,
    Template,
    TryNode,
    WaitNode,
)

_CHANGING: Final = re.compile(r"\$\s*(?:context|runtime)\b")
"""Variables whose value tasks change."""


def compile_program(definition: Mapping[str, Any], compiler: Compiler) -> Program:
    """Compile a checked definition.

    Expressions are compiled on their first evaluation, because the guard watches the process only then.

    Args:
        definition: the document as canonical, plain JSON.
        compiler: makes templates and validators.
    """
    return _Builder(definition, compiler).program()


class _Builder:
    """Compiles one definition."""

    def __init__(self, definition: Mapping[str, Any], compiler: Compiler) -> None:
        self._definition = definition
        self._compiler = compiler
        self._use: Mapping[str, Any] = definition.get("use") or {}
        self._functions: dict[str, Block] = {}
        self._callbacks = (definition.get("webhook") or {}).get("callbacks") or {}
        retry = (definition.get("execution") or {}).get("retry")
        self._retry = DEFAULT_RETRY_POLICY if retry is None else self._retry_policy(retry)
        self._extensions: tuple[CompiledExtension, ...] = ()  # tasks within an extension are not extended themselves
        self._extensions = tuple(map(self._extension, count(), self._use.get("extensions") or ()))
        self._functions.clear()

    def program(self) -> Program:
        """Return the compiled program."""
        definition = self._definition
        return Program(
            definition=definition,
            input=self._flow(definition.get("input"), "from"),
            block=self._block(definition["do"], "/do"),
            output=self._flow(definition.get("output"), "as"),
            secrets=tuple(self._use.get("secrets") or ()),
            timeout=self._timeout(definition.get("timeout")),
            input_reads_clock=task_reads_clock(definition.get("input") or {}),
            output_reads_clock=task_reads_clock(definition.get("output") or {}),
        )

    def _extension(self, position: int, item: Mapping[str, Any]) -> CompiledExtension:
        ((name, written),) = item.items()
        pointer = f"/use/extensions/{position}/{_escape(name)}"
        before, after = written.get("before"), written.get("after")
        return CompiledExtension(
            kind=written["extend"],
            when=self._optional(written.get("when")),
            before=None if before is None else self._block(before, f"{pointer}/before"),
            after=None if after is None else self._block(after, f"{pointer}/after"),
            reads_clock=reads_clock(written),
        )

    def _block(self, items: Sequence[Mapping[str, Any]], pointer: str) -> Block:
        nodes = []
        for position, item in enumerate(items):
            ((name, task),) = item.items()
            nodes.append(self._node(name, task, f"{pointer}/{position}/{_escape(name)}"))
        return Block(tuple(nodes), {node.name: index for index, node in enumerate(nodes)})

    def _node(self, name: str, task: Mapping[str, Any], pointer: str) -> Node:
        extensions = tuple(each for each in self._extensions if each.extends(kind_of(task) or ""))
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "definition": task,
            "condition": self._optional(task.get("if")),
            "input": self._flow(task.get("input"), "from"),
            "output": self._flow(task.get("output"), "as"),
            "export": self._flow(task.get("export"), "as"),
            "then": task.get("then") or CONTINUE,
            "timeout": self._timeout(task.get("timeout")),
            "reads_clock": task_reads_clock(task) or any(each.reads_clock for each in extensions),
            "extensions": extensions,
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
                if function in INTERNAL:
                    raise ValueError(f"{pointer}: {function} is not a function that a call may name")
                return self._call(common, function, task.get("with") or {}, passes_input=function == REPLY)
            case {"emit": {"event": {"with": properties}}}:
                sink = (task.get("metadata") or {}).get("sink")
                return EmitNode(
                    **common,
                    retry=self._effect_retry(task),
                    event=self._compiler.template(properties),
                    sink=None if sink is None else self._compiler.template(sink),
                )
            case {"run": run}:
                return self._run(common, run)
            case {"raise": {"error": str() as expression}} if is_expression(expression):
                return RaiseNode(**common, value=self._compiler.template(expression), whole=True)
            case {"raise": {"error": error}}:
                named = self._use["errors"][error] if isinstance(error, str) else error
                kind = call_arguments.compile_uri(named["type"])
                return RaiseNode(**common, value=self._compiler.template(named), kind=kind)
        return self._composite(common, task, pointer)

    def _composite(self, common: dict[str, Any], task: Mapping[str, Any], pointer: str) -> Node:
        match task:
            case {"for": loop, "do": items}:
                return ForNode(
                    **common,
                    each=loop.get("each") or "item",
                    at=loop.get("at") or "index",
                    items=self._compiler.expression(loop["in"]),
                    items_are_constant=_CHANGING.search(str(loop["in"])) is None,
                    while_condition=self._optional(task.get("while")),
                    block=self._block(items, f"{pointer}/do"),
                )
            case {"do": items}:
                return DoNode(**common, block=self._block(items, f"{pointer}/do"))
            case {"listen": listen}:
                return self._listen(common, listen, task.get("foreach"), pointer)
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
        raise ValueError(f"{pointer}: this version of Flowhook does not support this kind of task")

    def _listen(
        self, common: dict[str, Any], listen: Mapping[str, Any], foreach: Mapping[str, Any] | None, pointer: str
    ) -> ListenNode:
        compiler, callbacks = self._compiler, self._callbacks
        until = listen["to"].get("until")
        return ListenNode(
            **common,
            strategy=compile_strategy(listen["to"], compiler, callbacks),
            until=compile_strategy(until, compiler, callbacks) if isinstance(until, Mapping) else self._optional(until),
            read=listen.get("read") or "data",
            foreach=None
            if foreach is None
            else ForeachBlock(
                foreach.get("item") or "item",
                foreach.get("at") or "index",
                self._block(foreach.get("do") or (), f"{pointer}/foreach/do"),
                self._flow(foreach.get("output"), "as"),
                self._flow(foreach.get("export"), "as"),
            ),
        )

    def _call(self, common: dict[str, Any], function: str, given: Mapping[str, Any], *, passes_input: bool) -> CallNode:
        arguments, policies = self._arguments(function, given)
        return CallNode(
            **common,
            retry=self._effect_retry(common["definition"]),
            function=function,
            arguments=self._compiler.template(arguments),
            endpoint=_literal_endpoint(function, arguments),
            policies=policies,
            passes_input=passes_input,
        )

    def _run(self, common: dict[str, Any], run: Mapping[str, Any]) -> Node:
        awaited = run.get("await", True)
        match run:
            case {"workflow": flow}:
                return RunNode(
                    **common,
                    retry=self._effect_retry(common["definition"]),
                    flow_id=flow_id(flow["namespace"], flow["name"]),
                    version=flow.get("version") or "latest",
                    flow_input=self._compiler.template(flow.get("input", {})),
                    awaited=awaited,
                    returns=run.get("return") != "none",
                )
            case {"script": process} | {"shell": process}:
                function = "run.script" if "script" in run else "run.shell"
                given = {**process, "await": awaited, "return": run.get("return", "stdout")}
                return self._call(common, function, given, passes_input=not awaited)
        raise ValueError(f"{common['pointer']}: this version of Flowhook does not support this kind of process")

    def _arguments(
        self, function: str, arguments: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], tuple[PolicyPart, ...]]:
        """Return `with` without its authentication policies, and the policies, with names resolved."""
        found, known = [], call_arguments.POLICIES.get(function, ())
        for place in known:
            policy = call_arguments.find(arguments, place)
            if isinstance(policy, Mapping):
                named = self._use["authentications"][policy["use"]] if "use" in policy else policy
                uris = tuple(filter(None, (_literal(named, uri) for uri in call_arguments.POLICY_URIS)))
                found.append(PolicyPart(place, self._compiler.template(named), uris, place == known[-1]))
                arguments = call_arguments.put(arguments, place, None)
        return arguments, tuple(found)

    def _branches(self, items: Sequence[Mapping[str, Any]], pointer: str) -> tuple[Block, ...]:
        nodes = self._block(items, pointer).nodes
        return tuple(Block((node,), {node.name: 0}) for node in nodes)

    def _function(self, name: str) -> Block:
        """Return a function from `use.functions`, as a block of one task that all its calls share."""
        block = self._functions.get(name)
        if block is None:
            node = self._node(name, self._use["functions"][name], f"/use/functions/{_escape(name)}")
            block = self._functions[name] = Block((node,), {name: 0})
        return block

    def _catch(self, catch: Mapping[str, Any], pointer: str) -> CatchClause:
        filters = dict((catch.get("errors") or {}).get("with") or {})
        if "type" in filters:
            filters["type"] = standard_type(filters["type"])
        if "details" in filters:
            filters["detail"] = filters.pop("details")
        retry, tasks = catch.get("retry"), catch.get("do")
        return CatchClause(
            filters=filters,
            name=catch.get("as") or "error",
            when=self._optional(catch.get("when")),
            except_when=self._optional(catch.get("exceptWhen")),
            retry=None if retry is None else self._retry_policy(retry),
            block=None if tasks is None else self._block(tasks, f"{pointer}/do"),
        )

    def _flow(self, declared: Mapping[str, Any] | None, key: str) -> DataFlowStage:
        """Compile an `input`, `output` or `export` whose transformation is under `key`."""
        if not declared:
            return DataFlowStage()
        transform, schema = declared.get(key), declared.get("schema")
        return DataFlowStage(
            None if transform is None else self._compiler.expression(transform),
            None if schema is None else self._compiler.schema(schema["document"]),
        )

    def _optional(self, expression: Any) -> Template | None:
        """Compile an optional expression."""
        return None if expression is None else self._compiler.expression(expression)

    def _duration(self, duration: Any) -> Duration:
        """Compile a duration."""
        if is_expression(duration):
            return self._compiler.expression(duration)
        return round(parse_duration(duration) * 1000)

    def _timeout(self, timeout: Mapping[str, Any] | str | None) -> Duration | None:
        """Compile a timeout, or the name of one."""
        if timeout is None:
            return None
        named: Mapping[str, Any] = self._use["timeouts"][timeout] if isinstance(timeout, str) else timeout
        return self._duration(named["after"])

    def _retry_policy(self, given: Mapping[str, Any] | str) -> CompiledRetryPolicy:
        """Compile a retry policy, or the name of one."""
        policy: Mapping[str, Any] = self._use["retries"][given] if isinstance(given, str) else given
        limit, jitter, backoff = policy.get("limit") or {}, policy.get("jitter"), policy.get("backoff") or {}
        attempt = limit.get("attempt") or {}
        increment = (backoff.get("linear") or {}).get("increment")
        return CompiledRetryPolicy(
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

    def _cases(self, items: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
        """Compile the cases of a switch; the default one comes last."""
        cases = []
        for item in items:
            (case,) = item.values()
            cases.append(Case(self._optional(case.get("when")), case.get("then") or CONTINUE))
        return tuple(sorted(cases, key=lambda case: case.when is None))

    def _effect_retry(self, task: Mapping[str, Any]) -> CompiledRetryPolicy:
        metadata = task.get("metadata") or {}
        return self._retry_policy(metadata["retry"]) if "retry" in metadata else self._retry


def _literal_endpoint(function: str, arguments: Mapping[str, Any]) -> tuple[ArgumentPath, call_arguments.Expand] | None:
    place = call_arguments.ENDPOINTS.get(function)
    if place is None:
        return None
    return _literal(arguments, (*place, "uri") if isinstance(call_arguments.find(arguments, place), Mapping) else place)


def _literal(value: Mapping[str, Any], place: ArgumentPath) -> tuple[ArgumentPath, call_arguments.Expand] | None:
    uri = call_arguments.find(value, place)
    expand = call_arguments.compile_uri(uri) if isinstance(uri, str) else None
    return None if expand is None else (place, expand)


def _escape(name: str) -> str:
    """Return a name as a reference token of a JSON Pointer. Source: RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")
