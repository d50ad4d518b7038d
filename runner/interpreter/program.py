"""Compiler from a flow document to a `Program`, which all executions of the flow share.

A `Program` is built from the canonical definition: plain JSON types, checked when the flow was applied. It is
immutable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from flowhook.document.names import flow_id
from flowhook.document.task_kinds import kind_of
from flowhook.expressions import is_expression
from runner.interpreter import argument_paths, retry_policy, uri_template
from runner.interpreter.argument_paths import ArgumentPath
from runner.interpreter.clock_detection import reads_clock, task_reads_clock
from runner.interpreter.effects import INTERNAL
from runner.interpreter.errors import standard_type
from runner.interpreter.event_nodes import ForeachBlock, ListenNode
from runner.interpreter.events import compile_strategy
from runner.interpreter.nodes import CONTINUE, Block, CompiledExtension, Node, Program
from runner.interpreter.part_compiler import PartCompiler
from runner.interpreter.ports import Compiler
from runner.interpreter.retry_policy import CompiledRetryPolicy
from runner.interpreter.task_nodes import (
    REPLY,
    CallNode,
    CatchClause,
    DoNode,
    EmitNode,
    ForkNode,
    ForNode,
    FunctionNode,
    PolicyPart,
    RaiseNode,
    RunNode,
    SetNode,
    SwitchNode,
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
        self._parts = PartCompiler(self._use, compiler)
        self._functions: dict[str, Block] = {}
        self._callbacks = (definition.get("webhook") or {}).get("callbacks") or {}
        retry = (definition.get("execution") or {}).get("retry")
        self._retry = retry_policy.DEFAULT if retry is None else self._parts.retry(retry)
        self._extensions: tuple[CompiledExtension, ...] = ()  # tasks within an extension are not extended themselves
        self._extensions = tuple(map(self._extension, count(), self._use.get("extensions") or ()))
        self._functions.clear()

    def program(self) -> Program:
        """Return the compiled program."""
        definition = self._definition
        return Program(
            definition=definition,
            input=self._parts.flow(definition.get("input"), "from"),
            block=self._block(definition["do"], "/do"),
            output=self._parts.flow(definition.get("output"), "as"),
            secrets=tuple(self._use.get("secrets") or ()),
            timeout=self._parts.timeout(definition.get("timeout")),
            input_reads_clock=task_reads_clock(definition.get("input") or {}),
            output_reads_clock=task_reads_clock(definition.get("output") or {}),
        )

    def _extension(self, position: int, item: Mapping[str, Any]) -> CompiledExtension:
        ((name, written),) = item.items()
        pointer = f"/use/extensions/{position}/{_escape(name)}"
        before, after = written.get("before"), written.get("after")
        return CompiledExtension(
            kind=written["extend"],
            when=self._parts.optional(written.get("when")),
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
            "condition": self._parts.optional(task.get("if")),
            "input": self._parts.flow(task.get("input"), "from"),
            "output": self._parts.flow(task.get("output"), "as"),
            "export": self._parts.flow(task.get("export"), "as"),
            "then": task.get("then") or CONTINUE,
            "timeout": self._parts.timeout(task.get("timeout")),
            "reads_clock": task_reads_clock(task) or any(each.reads_clock for each in extensions),
            "extensions": extensions,
        }
        match task:
            case {"set": value}:
                return SetNode(**common, value=self._compiler.template(value))
            case {"switch": cases}:
                return SwitchNode(**common, cases=self._parts.cases(cases))
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
                kind = uri_template.compile_uri(named["type"])
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
                    while_condition=self._parts.optional(task.get("while")),
                    block=self._block(items, f"{pointer}/do"),
                )
            case {"do": items}:
                return DoNode(**common, block=self._block(items, f"{pointer}/do"))
            case {"listen": listen}:
                return self._listen(common, listen, task.get("foreach"), pointer)
            case {"wait": duration}:
                return WaitNode(**common, duration=self._parts.duration(duration))
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
            until=compile_strategy(until, compiler, callbacks)
            if isinstance(until, Mapping)
            else self._parts.optional(until),
            read=listen.get("read") or "data",
            foreach=None
            if foreach is None
            else ForeachBlock(
                foreach.get("item") or "item",
                foreach.get("at") or "index",
                self._block(foreach.get("do") or (), f"{pointer}/foreach/do"),
                self._parts.flow(foreach.get("output"), "as"),
                self._parts.flow(foreach.get("export"), "as"),
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
        found, known = [], argument_paths.POLICIES.get(function, ())
        for place in known:
            policy = argument_paths.find(arguments, place)
            if isinstance(policy, Mapping):
                named = self._use["authentications"][policy["use"]] if "use" in policy else policy
                uris = tuple(filter(None, (_literal(named, uri) for uri in argument_paths.POLICY_URIS)))
                found.append(PolicyPart(place, self._compiler.template(named), uris, place == known[-1]))
                arguments = argument_paths.put(arguments, place, None)
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
            when=self._parts.optional(catch.get("when")),
            except_when=self._parts.optional(catch.get("exceptWhen")),
            retry=None if retry is None else self._parts.retry(retry),
            block=None if tasks is None else self._block(tasks, f"{pointer}/do"),
        )

    def _effect_retry(self, task: Mapping[str, Any]) -> CompiledRetryPolicy:
        metadata = task.get("metadata") or {}
        return self._parts.retry(metadata["retry"]) if "retry" in metadata else self._retry


def _literal_endpoint(function: str, arguments: Mapping[str, Any]) -> tuple[ArgumentPath, uri_template.Expand] | None:
    place = argument_paths.ENDPOINTS.get(function)
    if place is None:
        return None
    return _literal(arguments, (*place, "uri") if isinstance(argument_paths.find(arguments, place), Mapping) else place)


def _literal(value: Mapping[str, Any], place: ArgumentPath) -> tuple[ArgumentPath, uri_template.Expand] | None:
    uri = argument_paths.find(value, place)
    expand = uri_template.compile_uri(uri) if isinstance(uri, str) else None
    return None if expand is None else (place, expand)


def _escape(name: str) -> str:
    """Return a name as a reference token of a JSON Pointer. Source: RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")
