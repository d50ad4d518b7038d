"""Follows the input through the tasks of a flow: warns about texts that are taken for numbers, and wrong paths.

The tasks of a block are a graph, whose edges are the order of the tasks and `then`. What a task gets is what any task
before it may have left. On the way, the time is added up for which the sender of a request waits for a `reply`.

Source: dsl.md, "Data Flow"; dsl-reference.md, "Switch", "Try", "Flow Directive".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from flowhook.document.definition import PlacedTask, strings_in, tasks_of, value_at, walk_everywhere
from flowhook.document.diagnostics.known_input import KnownInput
from flowhook.document.diagnostics.problems import Code, Path, Problem
from flowhook.document.loader import FlowDocument
from flowhook.document.quantities import parse_duration
from flowhook.errors import InvalidError
from flowhook.expressions.data_flow import (
    INPUT,
    NUMBER,
    TEXT,
    UNKNOWN,
    Findings,
    Kind,
    Made,
    Operation,
    Read,
    Value,
    made,
    read_program,
    union,
)
from flowhook.expressions.syntax import is_expression

_MAX_TASKS: Final = 5000  # tasks that are looked at, with repetitions: in loops within loops there is no end otherwise

_INFINITE: Final = float("inf")
_ON_ACCEPTANCE: Final = (("webhook", "dedupe"), ("webhook", "respond"), ("execution",))


class _State(NamedTuple):
    """What is known where a task begins."""

    data: Value
    context: Value
    waited: float | None  # seconds for which a sender may have waited; None: it has its reply, or waits for none


class _LimitReached(Exception):  # noqa: N818 - not an error: nothing more is reported
    pass


def data_flow_warnings(document: FlowDocument) -> Iterator[Problem]:
    if value_at(document.definition, ("use", "extensions")):
        return  # tasks before and after others may change anything
    analysis = _Analysis(document)
    with suppress(_LimitReached):
        analysis.run()
        for problems in analysis.found.values():
            yield from problems


class _Analysis:
    """The problems of each expression, in the state that is found last: it knows least, and includes all others."""

    def __init__(self, document: FlowDocument) -> None:
        self.found: dict[Path, list[Problem]] = {}
        self._definition = document.definition
        self._input = KnownInput(document)
        respond = None if document.webhook is None else document.webhook.respond
        self._reply_within = respond.timeout if respond is not None and respond.mode == "reply" else None
        self._limits: list[float] = []  # timeouts of the tasks around, in seconds
        self._tasks = 0
        functions = value_at(document.definition, ("use", "functions"))
        self._replying = {name for name, task in (functions or {}).items() if _replies([{name: task}])}

    def run(self) -> None:
        definition = self._definition
        given = _State(INPUT, UNKNOWN, None if self._reply_within is None else 0.0)
        wanted = value_at(definition, ("webhook", "accept", "filter"))
        if wanted is not None:
            self._read(("webhook", "accept", "filter"), wanted, INPUT, {})
        if self._input.is_request and value_at(definition, ("execution", "batch")) is None:
            for path in _ON_ACCEPTANCE:
                for place, text in strings_in(value_at(definition, path), path):
                    if is_expression(text):
                        self._read(place, text, INPUT, {})
        data = self._staged(("input", "from"), value_at(definition, ("input", "from")), INPUT, {})
        self._block(definition.get("do"), ("do",), given._replace(data=data))

    def _block(self, items: Any, path: Path, given: _State) -> _State | None:
        """Follow the tasks of a block; returns the state after it, None if it is not reached."""
        tasks = list(tasks_of(items, path))
        position = {placed.name: index for index, placed in enumerate(tasks)}
        states: dict[int, _State] = {0: given}
        due, after = {0}, None
        while due:
            index = min(due)
            due.remove(index)
            if index == len(tasks):
                after = states[index]
                continue
            for directive, state in self._task(tasks[index], states[index]):
                if directive == "end":
                    continue
                following = index + 1 if directive == "continue" else position.get(directive, len(tasks))
                joined = _joined(states.get(following), state)
                if joined != states.get(following):
                    states[following] = joined
                    due.add(following)
        return after

    def _task(self, placed: PlacedTask, state: _State) -> Iterator[tuple[str, _State]]:
        """Yield the flow directives that may follow a task, each with the state after it."""
        self._tasks += 1
        if self._tasks > _MAX_TASKS:
            raise _LimitReached
        task, path = placed.task, placed.path
        variables = self._variables(state)
        if "if" in task:
            self._read((*path, "if"), task["if"], state.data, variables)
            yield "continue", state
        data = self._staged((*path, "input", "from"), value_at(task, ("input", "from")), state.data, variables)
        variables["input"] = data
        with self._limited(task):
            ends = list(self._acted(placed, state._replace(data=data), variables))
        for directive, after in ends:
            output = self._staged((*path, "output", "as"), value_at(task, ("output", "as")), after.data, variables)
            export = value_at(task, ("export", "as"))
            context = after.context
            if export is not None:
                given = {**variables, "context": after.context, "output": output}
                context = self._staged((*path, "export", "as"), export, output, given)
            yield directive, _State(output, context, after.waited)

    def _acted(self, placed: PlacedTask, state: _State, variables: Mapping[str, Value]) -> Iterator[tuple[str, _State]]:
        task, path = placed.task, placed.path
        then = task.get("then", "continue")
        match placed.kind:
            case "set":
                yield then, state._replace(data=self._template((*path, "set"), task["set"], state.data, variables))
            case "switch":
                yield from self._cases(placed, state, variables)
            case "wait":
                yield then, self._waits((*path, "wait"), state, _seconds(task["wait"]) or 0)
            case "raise":
                self._template((*path, "raise"), task["raise"], state.data, variables)
            case "try":
                yield from self._try(placed, state)
            case "call":
                self._template((*path, "with"), task.get("with"), state.data, variables)
                replied = task["call"] == "reply" or task["call"] in self._replying
                yield then, state._replace(data=UNKNOWN, waited=None if replied else state.waited)
            case _:
                after = self._after(placed, state, variables)
                if after is not None:
                    yield then, after

    def _after(self, placed: PlacedTask, state: _State, variables: Mapping[str, Value]) -> _State | None:
        """Return the state after a task that has one way out."""
        task, path = placed.task, placed.path
        match placed.kind:
            case "do":
                return self._block(task["do"], (*path, "do"), state)
            case "for":
                return self._loop(placed, state, variables)
            case "fork":
                return self._branches(placed, state)
            case "listen":
                return self._listens(placed, state, variables)
        self._template((*path, placed.kind), task.get(placed.kind), state.data, variables)
        return state._replace(data=UNKNOWN)

    def _cases(self, placed: PlacedTask, state: _State, variables: Mapping[str, Value]) -> Iterator[tuple[str, _State]]:
        exhaustive = False
        for index, item in enumerate(placed.task["switch"]):
            for name, case in item.items():
                if "when" in case:
                    self._read((*placed.path, "switch", index, name, "when"), case["when"], state.data, variables)
                exhaustive |= "when" not in case
                yield case.get("then", "continue"), state
        if not exhaustive:
            yield placed.task.get("then", "continue"), state

    def _loop(self, placed: PlacedTask, state: _State, variables: Mapping[str, Value]) -> _State:
        task, path = placed.task, placed.path
        self._staged((*path, "for", "in"), value_at(task, ("for", "in")), state.data, variables)
        after = self._block(task.get("do"), (*path, "do"), _State(UNKNOWN, UNKNOWN, state.waited))
        return _State(UNKNOWN, UNKNOWN, _longer(state.waited, None if after is None else after.waited))

    def _branches(self, placed: PlacedTask, state: _State) -> _State:
        branches = list(tasks_of(value_at(placed.task, ("fork", "branches")), (*placed.path, "fork", "branches")))
        replying = any(_replies([{each.name: each.task}]) for each in branches)
        # what one branch does is not before or after what another does
        given = state._replace(waited=None) if replying else state
        waited = given.waited
        for each in branches:
            for _, after in self._task(each, given):
                waited = _longer(waited, after.waited)
        return _State(UNKNOWN, UNKNOWN, waited)

    def _try(self, placed: PlacedTask, state: _State) -> Iterator[tuple[str, _State]]:
        task, path = placed.task, placed.path
        then = task.get("then", "continue")
        after = self._block(task["try"], (*path, "try"), state)
        if after is not None:
            yield then, after
        caught = _State(state.data, UNKNOWN, None if _replies(task["try"]) else state.waited)
        for key in ("when", "exceptWhen"):
            self._read((*path, "catch", key), value_at(task, ("catch", key)), state.data, {})
        handler = value_at(task, ("catch", "do"))
        handled = caught if handler is None else self._block(handler, (*path, "catch", "do"), caught)
        if handled is not None:
            yield value_at(task, ("catch", "then")) or then, handled

    def _listens(self, placed: PlacedTask, state: _State, variables: Mapping[str, Value]) -> _State:
        path = (*placed.path, "listen")
        self._template(path, placed.task["listen"], state.data, variables)
        waiting = self._waits(path, state, min(self._limits, default=_INFINITE))
        foreach = (*placed.path, "foreach", "do")
        self._block(value_at(placed.task, ("foreach", "do")), foreach, _State(UNKNOWN, UNKNOWN, waiting.waited))
        return _State(UNKNOWN, UNKNOWN, waiting.waited)

    def _waits(self, path: Path, state: _State, seconds: float) -> _State:
        """Add the time that a task takes, and report it if a sender waits for longer than it can."""
        if state.waited is None or self._reply_within is None:
            return state
        waited = state.waited + seconds
        if waited < self._reply_within:
            return state._replace(waited=waited)
        cause = (
            f"a path through the flow waits here with no `call: reply` before it: after `respond.timeout`, "
            f"{self._reply_within:g} s, the sender gets 202 and has to ask for the reply"
        )
        self.found[path] = [Problem(path, Code.REPLY_TOO_LATE, cause)]
        return state._replace(waited=None)

    @contextmanager
    def _limited(self, task: Mapping[str, Any]) -> Iterator[None]:
        timeout = task.get("timeout")
        if isinstance(timeout, str):
            timeout = value_at(self._definition, ("use", "timeouts", timeout))
        seconds = _seconds(value_at(timeout, ("after",)))
        self._limits += () if seconds is None else (seconds,)
        try:
            yield
        finally:
            if seconds is not None:
                self._limits.pop()

    @staticmethod
    def _variables(state: _State) -> dict[str, Value]:
        return {"context": state.context, "workflow": made({"input": INPUT})}

    def _staged(self, path: Path, value: Any, data: Value, variables: Mapping[str, Value]) -> Value:
        """Follow `from`, `as` or `in`, whose strings are expressions; without it, the data is passed on."""
        if value is None:
            return data
        if isinstance(value, str):
            return self._read(path, value, data, variables)
        return self._template(path, value, data, variables)

    def _template(self, path: Path, value: Any, data: Value, variables: Mapping[str, Value]) -> Value:
        """Follow data of a document, whose strings may be expressions."""
        if isinstance(value, dict):
            return made({key: self._template((*path, key), item, data, variables) for key, item in value.items()})
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._template((*path, index), item, data, variables)
            return UNKNOWN
        if is_expression(value):
            return self._read(path, value, data, variables)
        if isinstance(value, str):
            return TEXT
        return NUMBER if type(value) in (int, float) else UNKNOWN

    def _read(self, path: Path, text: Any, data: Value, variables: Mapping[str, Value]) -> Value:
        if not isinstance(text, str):
            return UNKNOWN
        findings = Findings()
        value = read_program(text, data, variables, findings)
        causes = {**_of_paths(self._input, findings), **_of_operations(self._input, findings)}
        self.found[path] = [Problem(path, code, cause) for cause, code in causes.items()]
        return value


def _joined(one: _State | None, other: _State) -> _State:
    if one is None:
        return other
    return _State(union(one.data, other.data), union(one.context, other.context), _longer(one.waited, other.waited))


def _longer(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else max(one, other)


def _seconds(duration: Any) -> float | None:
    """Return a duration that is written out; None: it is not."""
    with suppress(InvalidError):
        return parse_duration(duration)
    return None


def _replies(tasks: Any) -> bool:
    """Whether there is a `call: reply` among tasks, or in them."""
    return any(placed.task.get("call") == "reply" for placed in walk_everywhere({"do": tasks}))


def _of_paths(known: KnownInput, findings: Findings) -> dict[str, Code]:
    wrong = (known.unknown(read) for read in findings.reads)
    return {f"`{path}` {cause}": Code.PATH_UNKNOWN for path, cause in wrong if cause}


def _of_operations(known: KnownInput, findings: Findings) -> dict[str, Code]:
    causes: dict[str, Code] = {}
    told: set[Read] = set()
    for operation in findings.operations:
        for value, other in ((operation.left, operation.right), (operation.right, operation.left)):
            for read in value:
                what, remedy = known.text(read) if isinstance(read, Read) and read not in told else ("", "")
                if isinstance(read, Read) and what and _needs_number(operation, other):
                    told.add(read)
                    causes[f"`{read.text}` {what}, and {_consequence(operation)}: {remedy}"] = Code.TEXT_AS_NUMBER
    return causes


def _needs_number(operation: Operation, other: Value) -> bool:
    """Whether an operation is meant for numbers, as what stands on its other side tells."""
    if operation.compares or operation.symbol in ("+", "/"):
        return Kind.NUMBER in other
    return not any(atom is Kind.TEXT or isinstance(atom, Made) for atom in other)


def _consequence(operation: Operation) -> str:
    if operation.symbol in ("==", "!="):
        return "no text equals a number"
    return "jq orders every text above every number" if operation.compares else "arithmetic needs numbers"
