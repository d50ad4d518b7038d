"""Flows in the docs parse, and give what the text below them says.

A block without `document` is a part of a flow with a webhook: what is missing is added. Where a block of JSON follows
the words "With the body `…`", the flow above is executed for that body.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import pages
from support.cases import cases

from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.diagnostics.problems import Code
from flowhook.document.diagnostics.source import read
from flowhook.document.loader import parse
from flowhook.events.workflow_input import has_webhook, workflow_input
from flowhook.model import Event
from runner.component_names import component_names
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import WorkflowCompleted
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program

FLOWS = [block for block in pages.all_blocks("yaml") if "apiVersion:" not in block.text]
DOCUMENT = "document: {dsl: 1.0.3, namespace: default, name: example, version: 1.0.0}\n"
OF_DATA = frozenset({Code.PATH_UNKNOWN, Code.REPLY_TOO_LATE, Code.TEXT_AS_NUMBER})
DOCUMENTED = frozenset({"acme.notify", "check-email:1.0.0@company"})
"""Components that the docs show how to write, and a function of a catalog."""
TASK = "do: [{keep: {set: {seen: true}}}]\n"


def whole(text):
    data = read(text.encode()).data
    text += "" if "do" in data else TASK
    return text if "document" in data else DOCUMENT + text


def examples():
    """Yield flow, body and expected JSON of every example that says what it gives."""
    for path in pages.PAGES:
        flow = None
        for block in pages.blocks(path):
            if block.language == "yaml":
                flow = block
            body = re.search(r"With the body `([^`]+)`[^`]*$", block.before)
            if block.language == "json" and body:
                yield pytest.param(flow, body[1], block, id=str(block))


@cases("block", FLOWS, ids=str)
def test_a_flow_can_be_applied(block):
    parse(whole(block.text).encode(), file=str(block), functions=component_names() | DOCUMENTED)


@cases("flow", [*FLOWS, *sorted((pages.DOCS.parent / "examples").rglob("*.yaml"))], ids=str)
def test_nothing_is_said_about_the_data_of_a_flow_that_is_an_example(flow):
    source = (flow.read_text(encoding="utf-8") if isinstance(flow, Path) else whole(flow.text)).encode()
    warnings = located_warnings(parse(source, functions=component_names() | DOCUMENTED), source, file=str(flow))
    assert [each for each in warnings if each.code in OF_DATA] == []


@cases(("flow", "body", "result"), list(examples()))
def test_a_flow_gives_what_the_text_says(flow, body, result):
    definition = parse(whole(flow.text).encode()).definition
    webhook = has_webhook(definition) or "document" not in read(flow.text.encode()).data
    event = Event("evt_1", "example", 0, None, "", "POST", "/", "", "application/json", (), body.encode())
    workflow = ExecutionContext(event.id, definition, workflow_input(event, webhook=webhook), 0, lambda: 0)

    step = ExecutionMachine(compile_program(definition, Evaluator()), workflow).advance().ending

    given = json.loads(step.output) if isinstance(step, WorkflowCompleted) else step.error.as_dict()
    assert given == json.loads(result.text)


@cases("block", pages.all_blocks("json"), ids=str)
def test_json_is_json(block):
    json.loads(block.text)
