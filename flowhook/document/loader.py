"""Parses and validates flow files, and loads stored definitions.

`parse` is for files that people write: it runs all checks and reports all faults at once, each with its line.
`load_definition` is for definitions that `parse` accepted before: it only builds the models, in well under a
millisecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
from pydantic import BaseModel

from flowhook.document.catalogs import read_flow
from flowhook.document.definition import flow_id
from flowhook.document.diagnostics.problems import Code, Mark, Problem, to_fault
from flowhook.document.diagnostics.rules.workflow import check_rules
from flowhook.document.diagnostics.shapes import check_shape
from flowhook.document.models.execution import ExecutionPolicy
from flowhook.document.models.webhook import Webhook
from flowhook.document.models.workflow import Workflow
from flowhook.errors import Fault, InvalidFlowError

MAX_FAULTS: Final = 100  # faults that are reported for one file; more would not help


@dataclass(frozen=True, slots=True)
class FlowDocument:
    """A flow."""

    id: str  # `name`, or `namespace.name` outside the namespace `default`
    # the whole document, Flowhook's own keys included, in plain JSON types; do not modify it
    definition: dict[str, Any]
    workflow: Workflow  # what the DSL defines
    webhook: Webhook | None  # None: the flow has no URL
    execution: ExecutionPolicy


def canonical(definition: dict[str, Any]) -> bytes:
    """Return a definition as JSON. Keys are in the author's order, because responses of flows are built from them."""
    return orjson.dumps(definition)


def parse(source: bytes, *, file: str = "flow.yaml", functions: Collection[str] | None = None) -> FlowDocument:
    """Read and check a flow file, YAML 1.2 or JSON, UTF-8, of at most `limits.MAX_DOCUMENT_BYTES`.

    Takes milliseconds, or seconds for a file that is made to be slow: do not call it on an event loop. A `call` may use
    the components `functions` besides the DSL's functions; None: any name.

    Raises:
        InvalidFlowError: the file has faults; lists all of them, sorted by line (at most `MAX_FAULTS`).
    """
    text = read_flow(source)
    problems = text.problems[: MAX_FAULTS + 1]
    if isinstance(text.data, dict):
        problems += _check(text.data, functions)
    elif not problems:
        cause = "expected a mapping with the keys `document` and `do`"
        problems.append(Problem((), Code.VALUE_TYPE, cause, text.root.line))
    if problems:
        raise InvalidFlowError(_faults(problems, file, text.root))
    return build(text.data)


def _faults(problems: list[Problem], file: str, root: Mark) -> list[Fault]:
    faults = {to_fault(problem, file=file, root=root) for problem in problems}
    ordered = sorted(faults, key=lambda fault: (fault.line, fault.key, fault.cause))
    if len(ordered) <= MAX_FAULTS:
        return ordered
    cause = "there are more problems, which are reported once these are corrected"
    return [*ordered[:MAX_FAULTS], Fault(file, 0, "", cause, Code.MORE_PROBLEMS)]


def _check(data: dict[str, Any], functions: Collection[str] | None) -> list[Problem]:
    """Return at most `MAX_FAULTS` + 1 problems each of rules and of shape; of shape, none where a rule has one."""
    broken = list(islice(check_rules(data, functions), MAX_FAULTS + 1))
    settled = {problem.path for problem in broken}
    shapes = (
        problem
        for problem in _check_shapes(data)
        if not any(problem.path[:length] in settled for length in range(1, len(problem.path) + 1))
    )
    return broken + list(islice(shapes, MAX_FAULTS + 1))


def _check_shapes(data: dict[str, Any]) -> Iterator[Problem]:
    ours: dict[str, type[BaseModel]] = {"webhook": Webhook, "execution": ExecutionPolicy}
    yield from check_shape(Workflow, {key: value for key, value in data.items() if key not in ours}, siblings=ours)
    for key, model in ours.items():
        if data.get(key) is not None:
            yield from check_shape(model, data[key], (key,))


def load_definition(definition: bytes) -> FlowDocument:
    """Build a flow from canonical JSON that `parse` accepted; raises ValidationError if another version did."""
    return build(orjson.loads(definition))


def build(definition: dict[str, Any]) -> FlowDocument:
    parts = dict(definition)
    webhook = parts.pop("webhook", None)
    execution = parts.pop("execution", None)
    workflow = Workflow.model_validate(parts)
    return FlowDocument(
        id=flow_id(workflow.document.namespace, workflow.document.name),
        definition=definition,
        workflow=workflow,
        webhook=None if webhook is None else Webhook.model_validate(webhook),
        execution=ExecutionPolicy() if execution is None else ExecutionPolicy.model_validate(execution),
    )
