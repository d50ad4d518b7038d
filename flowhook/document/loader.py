"""From the text of a flow file to a checked `FlowDocument`, and from its stored form back to one.

`parse` is for what a person wrote: every check there is, all faults at once, each with its line. `load_definition` is
for what `parse` let through before: it only builds the models, in well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from flowhook.document.execution import ExecutionPolicy
from flowhook.document.webhook import Webhook
from flowhook.document.workflow import Workflow


@dataclass(frozen=True, slots=True)
class FlowDocument:
    """A flow.

    Attributes:
        id: `name`, or `namespace.name` outside the namespace `default`.
        definition: the whole document, keys of ours included, in plain JSON types; not to be changed.
        workflow: what of it is the DSL's.
        webhook: how events come in; None when the flow has no URL.
        execution: how it is run.
    """

    id: str
    definition: dict[str, Any]
    workflow: Workflow
    webhook: Webhook | None
    execution: ExecutionPolicy


def canonical(definition: dict[str, Any]) -> bytes:
    """Return a definition as JSON with sorted keys: equal bytes for equal documents."""
    return orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)


def parse(source: bytes, *, file: str = "flow.yaml", functions: Collection[str] | None = None) -> FlowDocument:
    """Read and check a flow file, YAML 1.2 or JSON.

    Takes milliseconds, seconds for a file made to be slow: keep it off event loops.

    Args:
        source: UTF-8, at most `limits.MAX_DOCUMENT_BYTES`.
        file: how the faults name the file.
        functions: names of the components that a `call` may name beside `http`; None: any name will do.

    Raises:
        InvalidFlowError: something is wrong with it; lists everything that is, by line.
    """
    raise NotImplementedError


def load_definition(definition: bytes) -> FlowDocument:
    """Build a flow from canonical JSON that `parse` made; nothing that `parse` checked is checked again.

    Raises:
        pydantic.ValidationError: it was not made by this version of Flowhook, nor by one it is compatible with.
    """
    return build(orjson.loads(definition))


def build(definition: dict[str, Any]) -> FlowDocument:
    """Build the models of a definition."""
    parts = dict(definition)
    webhook = parts.pop("webhook", None)
    execution = parts.pop("execution", None)
    workflow = Workflow.model_validate(parts)
    return FlowDocument(
        id=workflow.document.flow_id,
        definition=definition,
        workflow=workflow,
        webhook=None if webhook is None else Webhook.model_validate(webhook),
        execution=ExecutionPolicy() if execution is None else ExecutionPolicy.model_validate(execution),
    )
