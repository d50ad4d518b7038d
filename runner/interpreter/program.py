"""Compiler from a flow document to a `Program`, which is immutable, and which all executions of the flow share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, TypeVar

import attrs
from typing_extensions import override

from flowhook.document.definition import POLICIES, error_types, flow_id, kind_of, pointer_token, value_at
from flowhook.document.quantities import parse_duration
from flowhook.events.workflow_input import batches_events, has_webhook, takes_raw_body
from flowhook.expressions.syntax import is_expression
from flowhook.model.error_types import Spelling, respelled, standard_type
from flowhook.payloads.field_types import field_types
from runner.interpreter import call_arguments, nodes
from runner.interpreter.call_arguments import ArgumentPath
from runner.interpreter.clock_detection import reads_clock, task_reads_clock
from runner.interpreter.effects import INTERNAL
from runner.interpreter.events import compile_strategy

_CHANGING: Final = re.compile(r"\$\s*(?:context|runtime)\b")  # variables whose value tasks change


def compile_program(
    definition: Mapping[str, Any], compiler: nodes.Compiler, *, default_retry: str = nodes.DEFAULT_RETRY
) -> nodes.Program:
    """Compile a checked definition (plain JSON); expressions at first use, as the guard watches only then.

    `default_retry` is the preset by which calls are tried again, if the definition does not say otherwise.
    """
    build, use = _Builder(definition, compiler, default_retry), definition.get("use") or {}
    build.extensions = tuple(map(build.extension, count(), use.get("extensions") or ()))
    build.functions.clear()
    return nodes.Program(
        definition=definition,
        input=build.flow(definition.get("input"), "from"),
        block=build.block(definition["do"], "/do"),
        output=build.flow(definition.get("output"), "as"),
        secrets=tuple(use.get("secrets") or ()),
        callbacks=tuple((definition.get("webhook") or {}).get("callbacks") or ()),
        has_webhook=has_webhook(definition),
        takes_raw_body=takes_raw_body(definition),
        fields=field_types(definition),
        batches=batches_events(definition),
        timeout=_optional(build.timeout, definition.get("timeout")),
        input_reads_clock=task_reads_clock(definition.get("input") or {}),
        output_reads_clock=task_reads_clock(definition.get("output") or {}),
    )


@attrs.frozen
class _Respelled(nodes.Compiler):
    """Compiles expressions with the types of the standard's errors as the flow sees them, however they are written."""

    _compiler: nodes.Compiler
    _spelling: Spelling

    @override
    def template(self, value: Any) -> nodes.Template:
        return self._compiler.template(self._of(value))

    @override
    def expression(self, value: Any) -> nodes.Template:
        return self._compiler.expression(respelled(value, self._spelling) if isinstance(value, str) else value)

    @override
    def schema(self, document: Any) -> nodes.Validator:
        return self._compiler.schema(document)

    def _of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._of(item) for item in value]
        return respelled(value, self._spelling) if is_expression(value) else value


class _Builder:
    def __init__(self, definition: Mapping[str, Any], compiler: nodes.Compiler, default_retry: str) -> None:
        self._compiler: nodes.Compiler = _Respelled(compiler, error_types(definition))
        self._use: Mapping[str, Any] = definition.get("use") or {}
        self._callbacks = (definition.get("webhook") or {}).get("callbacks") or {}
        retry = (definition.get("execution") or {}).get("retry")
        self._retry = self._effect_policy(default_retry if retry is None else retry)
        self.functions: dict[str, nodes.Block] = {}
        # empty while extensions are compiled: their tasks are not extended themselves
        self.extensions: tuple[nodes.CompiledExtension, ...] = ()

    def extension(self, position: int, item: Mapping[str, Any]) -> nodes.CompiledExtension:
        ((name, written),) = item.items()
        pointer = f"/use/extensions/{position}/{pointer_token(name)}"
        return nodes.CompiledExtension(
            kind=written["extend"],
            when=_optional(self._compiler.expression, written.get("when")),
            before=_optional(self.block, written.get("before"), f"{pointer}/before"),
            after=_optional(self.block, written.get("after"), f"{pointer}/after"),
            reads_clock=reads_clock(written),
        )

    def block(self, items: Sequence[Mapping[str, Any]], pointer: str) -> nodes.Block:
        named = [(position, *next(iter(item.items()))) for position, item in enumerate(items)]
        compiled = tuple(
            self._node(name, task, f"{pointer}/{index}/{pointer_token(name)}") for index, name, task in named
        )
        return nodes.Block(compiled, {name: index for index, name, _ in named})

    def _node(self, name: str, task: Mapping[str, Any], pointer: str) -> nodes.Node:
        extensions = tuple(each for each in self.extensions if each.extends(kind_of(task) or ""))
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "definition": task,
            "condition": _optional(self._compiler.expression, task.get("if")),
            "input": self.flow(task.get("input"), "from"),
            "output": self.flow(task.get("output"), "as"),
            "export": self.flow(task.get("export"), "as"),
            "then": task.get("then") or nodes.CONTINUE,
            "timeout": _optional(self.timeout, task.get("timeout")),
            "reads_clock": task_reads_clock(task) or any(each.reads_clock for each in extensions),
            "extensions": extensions,
        }
        match task:
            case {"set": value}:
                return nodes.SetNode(**common, value=self._compiler.template(value))
            case {"switch": cases}:
                return nodes.SwitchNode(**common, cases=self._cases(cases))
            case {"call": function} if function in self._use.get("functions", ()):
                given = self._compiler.template(task.get("with") or {})
                return nodes.FunctionNode(**common, arguments=given, block=self._function(function))
            case {"call": function}:
                if function in INTERNAL:
                    raise ValueError(f"{pointer}: {function} is not a function that a call may name")
                return self._call(common, function, task.get("with") or {}, passes_input=function == nodes.REPLY)
            case {"emit": {"event": {"with": properties}}}:
                sink = _optional(self._compiler.template, (task.get("metadata") or {}).get("sink"))
                event = self._compiler.template(properties)
                return nodes.EmitNode(**common, retry=self._effect_retry(task), event=event, sink=sink)
            case {"run": run}:
                return self._run(common, run)
            case {"raise": {"error": str() as expression}} if is_expression(expression):
                return nodes.RaiseNode(**common, value=self._compiler.template(expression), whole=True)
            case {"raise": {"error": error}}:
                named = self._use["errors"][error] if isinstance(error, str) else error
                kind = call_arguments.compile_uri(named["type"])
                return nodes.RaiseNode(**common, value=self._compiler.template(named), kind=kind)
        return self._composite(common, task, pointer)

    def _composite(self, common: dict[str, Any], task: Mapping[str, Any], pointer: str) -> nodes.Node:
        match task:
            case {"for": loop, "do": items}:
                return nodes.ForNode(
                    **common,
                    each=loop.get("each") or "item",
                    at=loop.get("at") or "index",
                    items=self._compiler.expression(loop["in"]),
                    items_are_constant=_CHANGING.search(str(loop["in"])) is None,
                    while_condition=_optional(self._compiler.expression, task.get("while")),
                    block=self.block(items, f"{pointer}/do"),
                )
            case {"do": items}:
                return nodes.DoNode(**common, block=self.block(items, f"{pointer}/do"))
            case {"listen": listen}:
                foreach = _optional(self._foreach, task.get("foreach"), f"{pointer}/foreach/do")
                return nodes.ListenNode(
                    **common,
                    strategy=compile_strategy(listen["to"], self._compiler, self._callbacks),
                    until=_optional(self._until, listen["to"].get("until")),
                    read=listen.get("read") or "data",
                    foreach=foreach,
                )
            case {"wait": duration}:
                return nodes.WaitNode(**common, duration=self._duration(duration))
            case {"try": items, "catch": catch}:
                block = self.block(items, f"{pointer}/try")
                return nodes.TryNode(**common, block=block, catch=self._catch(catch, f"{pointer}/catch/do"))
            case {"fork": fork}:
                tasks = self.block(fork["branches"], f"{pointer}/fork/branches").nodes
                branches = tuple(nodes.Block((node,), {node.name: 0}) for node in tasks)
                return nodes.ForkNode(**common, branches=branches, compete=bool(fork.get("compete")))
        raise ValueError(f"{pointer}: this version of Flowhook does not support this kind of task")

    def _until(self, until: Mapping[str, Any] | str) -> nodes.CompiledStrategy | nodes.Template:
        if isinstance(until, str):
            return self._compiler.expression(until)
        return compile_strategy(until, self._compiler, self._callbacks)

    def _foreach(self, foreach: Mapping[str, Any], pointer: str) -> nodes.ForeachBlock:
        return nodes.ForeachBlock(
            foreach.get("item") or "item",
            foreach.get("at") or "index",
            self.block(foreach.get("do") or (), pointer),
            self.flow(foreach.get("output"), "as"),
            self.flow(foreach.get("export"), "as"),
        )

    def _call(
        self, common: dict[str, Any], function: str, given: Mapping[str, Any], *, passes_input: bool
    ) -> nodes.Node:
        subscription = given.get("subscription") if function == "asyncapi" else None
        if subscription is not None:
            given = {key: value for key, value in given.items() if key != "subscription"}
        arguments, policies = self._arguments(function, given)
        call = {
            **common,
            "retry": self._effect_retry(common["definition"]),
            "function": function,
            "arguments": self._compiler.template(arguments),
            "endpoint": _literal_endpoint(function, arguments),
            "policies": policies,
        }
        if subscription is not None:
            return self._subscribe(call, subscription)
        return nodes.CallNode(**call, passes_input=passes_input)

    def _subscribe(self, call: dict[str, Any], subscription: Mapping[str, Any]) -> nodes.Node:
        consume, pointer = subscription["consume"], f"{call['pointer']}/with/subscription/foreach/do"
        return nodes.SubscribeNode(
            **call,
            filter=_optional(self._compiler.expression, subscription.get("filter")),
            amount=consume.get("amount"),
            while_condition=_optional(self._compiler.expression, consume.get("while")),
            until=_optional(self._compiler.expression, consume.get("until")),
            duration=_optional(self._duration, consume.get("for")),
            foreach=_optional(self._foreach, subscription.get("foreach"), pointer),
        )

    def _run(self, common: dict[str, Any], run: Mapping[str, Any]) -> nodes.Node:
        awaited = run.get("await", True)
        match run:
            case {"workflow": flow}:
                return nodes.RunNode(
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
    ) -> tuple[Mapping[str, Any], tuple[nodes.PolicyPart, ...]]:
        found, known = [], POLICIES.get(function, ())
        for place in known:
            policy = value_at(arguments, place)
            if isinstance(policy, Mapping):
                named = self._use["authentications"][policy["use"]] if "use" in policy else policy
                uris = tuple(filter(None, (_literal(named, uri) for uri in call_arguments.POLICY_URIS)))
                found.append(nodes.PolicyPart(place, self._compiler.template(named), uris, place == known[-1]))
                arguments = call_arguments.put(arguments, place, None)
        return arguments, tuple(found)

    def _function(self, name: str) -> nodes.Block:
        """Return a function from `use.functions`, as a block of one task that all its calls share."""
        if name not in self.functions:
            node = self._node(name, self._use["functions"][name], f"/use/functions/{pointer_token(name)}")
            self.functions[name] = nodes.Block((node,), {name: 0})
        return self.functions[name]

    def _catch(self, catch: Mapping[str, Any], pointer: str) -> nodes.CatchClause:
        filters = dict((catch.get("errors") or {}).get("with") or {})
        if "type" in filters:
            filters["type"] = standard_type(filters["type"])
        if "details" in filters:
            filters["detail"] = filters.pop("details")
        return nodes.CatchClause(
            filters=filters,
            name=catch.get("as") or "error",
            when=_optional(self._compiler.expression, catch.get("when")),
            except_when=_optional(self._compiler.expression, catch.get("exceptWhen")),
            retry=_optional(self._retry_policy, catch.get("retry")),
            block=_optional(self.block, catch.get("do"), pointer),
            then=catch.get("then") or "",
        )

    def flow(self, declared: Mapping[str, Any] | None, key: str) -> nodes.DataFlowStage:
        part = declared or {}
        schema = (part.get("schema") or {}).get("document")
        transform = _optional(self._compiler.expression, part.get(key))
        return nodes.DataFlowStage(transform, _optional(self._compiler.schema, schema))

    def _duration(self, duration: Any) -> nodes.Duration:
        if is_expression(duration):
            return self._compiler.expression(duration)
        return round(parse_duration(duration) * 1000)

    def timeout(self, timeout: Mapping[str, Any] | str) -> nodes.Duration:
        named: Mapping[str, Any] = self._use["timeouts"][timeout] if isinstance(timeout, str) else timeout
        return self._duration(named["after"])

    def _effect_policy(self, given: Mapping[str, Any] | str) -> nodes.CompiledRetryPolicy:
        """Compile the policy of a call, which may be a preset; a definition in `use.retries` goes before it."""
        if isinstance(given, str) and given not in self._use.get("retries", ()):
            return nodes.RETRY_PRESETS[given]
        return self._retry_policy(given)

    def _retry_policy(self, given: Mapping[str, Any] | str) -> nodes.CompiledRetryPolicy:
        policy: Mapping[str, Any] = self._use["retries"][given] if isinstance(given, str) else given
        limit, jitter, backoff = policy.get("limit") or {}, policy.get("jitter"), policy.get("backoff") or {}
        attempt = limit.get("attempt") or {}
        growth = next(iter(backoff.values()), None) or {}
        return nodes.CompiledRetryPolicy(
            when=_optional(self._compiler.expression, policy.get("when")),
            except_when=_optional(self._compiler.expression, policy.get("exceptWhen")),
            delay=self._duration(policy.get("delay", {"seconds": 0})),
            backoff=next(iter(backoff), "constant"),
            increment=_optional(self._duration, growth.get("increment")),
            max_delay=_optional(self._duration, growth.get("maxDelay")),
            jitter=None if jitter is None else (self._duration(jitter["from"]), self._duration(jitter["to"])),
            count=attempt.get("count"),
            attempt_duration=_optional(self._duration, attempt.get("duration")),
            duration=_optional(self._duration, limit.get("duration")),
        )

    def _cases(self, items: Sequence[Mapping[str, Any]]) -> tuple[nodes.Case, ...]:
        """Compile the cases of a switch; the default one comes last."""
        cases = (case for item in items for case in item.values())
        pairs = ((_optional(self._compiler.expression, case.get("when")), case.get("then")) for case in cases)
        compiled = (nodes.Case(when, then or nodes.CONTINUE) for when, then in pairs)
        return tuple(sorted(compiled, key=lambda case: case.when is None))

    def _effect_retry(self, task: Mapping[str, Any]) -> nodes.CompiledRetryPolicy:
        metadata = task.get("metadata") or {}
        return self._effect_policy(metadata["retry"]) if "retry" in metadata else self._retry


Compiled = TypeVar("Compiled")


def _optional(compile_: Callable[..., Compiled], part: Any, *more: Any) -> Compiled | None:
    return None if part is None else compile_(part, *more)


def _literal_endpoint(function: str, arguments: Mapping[str, Any]) -> tuple[ArgumentPath, call_arguments.Expand] | None:
    if function not in POLICIES:
        return None
    place = POLICIES[function][0][:-1]  # the endpoint is a URI, or a mapping with `uri`
    return _literal(arguments, (*place, "uri") if isinstance(value_at(arguments, place), Mapping) else place)


def _literal(value: Mapping[str, Any], place: ArgumentPath) -> tuple[ArgumentPath, call_arguments.Expand] | None:
    uri = value_at(value, place)
    expand = call_arguments.compile_uri(uri) if isinstance(uri, str) else None
    return None if expand is None else (place, expand)
