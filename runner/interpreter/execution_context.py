"""Constants of one execution, as its expressions see them: secrets, `$workflow`, `$runtime`, callback URLs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from flowhook import __version__
from flowhook.document.definition import error_types, flow_id
from flowhook.events.workflow_input import rfc3339
from flowhook.model import WorkflowError
from flowhook.model.error_types import spelled
from runner.interpreter.errors import TaskFault
from runner.interpreter.redaction import Redactor


def secrets_data(values: Mapping[str, bytes]) -> dict[str, Any]:
    """Return `$secrets`: a secret that is a JSON object is parsed, so that its fields have names; others are text."""
    return {name: secret_data(value) for name, value in values.items()}


def secret_data(value: bytes) -> Any:
    if value.startswith(b"{"):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(value)
    return value.decode(errors="replace")


def date_time(milliseconds: int) -> dict[str, Any]:
    """Return an instant in the DSL's format (dsl.md, "DateTime Descriptor")."""
    return {"iso8601": rfc3339(milliseconds), "epoch": {"seconds": milliseconds // 1000, "milliseconds": milliseconds}}


@dataclass(slots=True)
class OneTimeUrls:
    """URLs of a flow's callbacks that are valid for this execution, once each."""

    names: Sequence[str]
    # creates the URL of a callback; its second argument distinguishes the URLs of one callback
    url: Callable[[str, int], str]
    used: dict[str, int] = field(default_factory=dict)  # number of such URLs used so far, by callback name

    def current(self) -> dict[str, str]:
        """Return the unused URL of each callback, by name."""
        return {name: self.url(name, self.used.get(name, 0)) for name in self.names}

    def use(self, name: str) -> None:
        self.used[name] = self.used.get(name, 0) + 1


class RemoteEvaluator(Protocol):
    """Evaluates expressions and schemas in a separate process, which can be killed. Blocking."""

    def first(self, program: str, text: str, instance: str) -> str | None:
        """Return what `JqProgramCache.first` does, for the task at `instance`."""
        ...

    def violation(self, schema: Any, data: Any, instance: str) -> str | None:
        """Return where and how data violates a JSON Schema; None: it is valid."""
        ...


@dataclass(slots=True)
class ExecutionContext:
    """Constants of one execution."""

    id: str
    definition: Mapping[str, Any]
    raw_input: Any
    started_at_ms: int
    clock: Callable[[], int]  # returns Unix milliseconds
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    # whether the execution has used up its time slice; called between expressions
    must_yield: Callable[[], bool] = lambda: False
    effect_scope: str = ""  # first part of idempotency keys: the execution's own ID, except in replays
    # number of `run` tasks, and of events that started flows, between it and an event that no flow emitted
    depth: int = 0
    one_time: OneTimeUrls | None = None
    remote_evaluator: RemoteEvaluator | None = None  # evaluates expressions in another process; None: this process does
    _redactor: Redactor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.effect_scope = self.effect_scope or self.id

    @property
    def redactor(self) -> Redactor | None:
        if self._redactor is None and self.secrets:
            self._redactor = Redactor(self.secrets)
        return self._redactor

    def shown(self, error: WorkflowError) -> dict[str, Any]:
        """Return an error as the flow's expressions see it."""
        return error.as_dict(error_types(self.definition))

    def spelled(self, type_: str) -> str:
        """Return the type of an error as the flow's expressions see it."""
        return spelled(type_, error_types(self.definition))

    def redacted(self, fault: TaskFault) -> WorkflowError:
        """Return the error of a fault without secrets; cached in the fault, as every enclosing task asks for it."""
        if fault.redacted is None:
            redactor = self.redactor
            fault.redacted = fault.error if redactor is None else redactor.redact_error(fault.error)
        return fault.redacted

    @property
    def flow_id(self) -> str:
        document = self.definition["document"]
        return flow_id(document["namespace"], document["name"])

    def descriptor(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "definition": self.definition,
            "input": self.raw_input,
            "startedAt": date_time(self.started_at_ms),
        }

    def runtime(self) -> dict[str, Any]:
        metadata = self.metadata if self.one_time is None else {**self.metadata, "callbacks": self.one_time.current()}
        return {"name": "flowhook", "version": __version__, "metadata": metadata}
