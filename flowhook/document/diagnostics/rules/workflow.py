"""Checks a document as a whole: the entry point of the rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from flowhook.document.catalogs import ENDPOINT
from flowhook.document.definition import RETRY_PRESETS, strings_in
from flowhook.document.diagnostics.problems import Code, Problem
from flowhook.document.diagnostics.rules import tasks, unsupported
from flowhook.document.diagnostics.rules.calls import check_authentication
from flowhook.document.diagnostics.rules.context import (
    TASK_INPUT_VARIABLES,
    TASK_VARIABLES,
    WORKFLOW_INPUT_VARIABLES,
    WORKFLOW_OUTPUT_VARIABLES,
    Part,
    RuleContext,
    repeated_names,
)
from flowhook.document.diagnostics.rules.events import check_triggers
from flowhook.expressions.paths import paths_in
from flowhook.expressions.syntax import InvalidExpression, is_expression, strip_markers

_BODY = re.compile(r"\.body\b")  # in any jq program: no request would pass
CAUSE = "`.body` is null with `parse: raw`: the body is an attachment, which only tasks can read"


def check_rules(data: dict[str, Any], functions: Collection[str] | None) -> Iterator[Problem]:
    """Yield the problems of a flow file that its shape does not show.

    `functions`: the names that `call` may have beside the standard ones, or None if they are not known here.
    """
    context, document = RuleContext(data, functions), Part(data, ())
    use, schedule = document.at("use"), document.at("schedule")
    for keys, cause in unsupported.KEYS.items():
        if document.at(*keys).value is not None:
            yield Problem(keys, Code.UNSUPPORTED, cause)
    for part in (document, document.at("document"), use, schedule):
        yield from part.null_keys()
    yield from tasks.check_section(context, document, "input", WORKFLOW_INPUT_VARIABLES)
    for _, error in use.at("errors").members:
        yield from tasks.check_error(context, error)
    for _, policy in use.at("authentications").members:
        yield from context.template(policy, TASK_VARIABLES)
        yield from check_authentication(context, policy)
    for _, policy in use.at("retries").members:
        yield from tasks.check_retry(context, policy, may_be_named=False)
    for _, timeout in use.at("timeouts").members:
        yield from tasks.check_timeout(context, timeout, TASK_VARIABLES, may_be_named=False)
    yield from _catalogs(context, use.at("catalogs"))
    for name, task in use.at("functions").members:
        yield from tasks.check_function(context, name, task)
    yield from _extensions(context, use.at("extensions"))
    yield from tasks.check_retry(context, document.at("execution", "retry"), presets=RETRY_PRESETS)
    accept = document.at("webhook", "accept")
    yield from context.expression(accept.at("filter"), frozenset())  # `.` is all that it sees at the edge
    yield from tasks.check_schema(accept.at("schema"))
    yield from _raw_bodies(document)
    yield from _groups(document)
    yield from tasks.check_timeout(context, document.at("timeout"), WORKFLOW_OUTPUT_VARIABLES)
    yield from check_triggers(context, schedule.at("on"))
    yield from tasks.check_tasks(context, document.at("do"))
    yield from tasks.check_section(context, document, "output", WORKFLOW_OUTPUT_VARIABLES)


def _catalogs(context: RuleContext, definitions: Part) -> Iterator[Problem]:
    for _, catalog in definitions.members:
        endpoint = catalog.at("endpoint")
        uri = endpoint.at("uri") if isinstance(endpoint.value, dict) else endpoint
        if isinstance(uri.value, str) and not ENDPOINT.fullmatch(uri.value):
            cause = "expected the https URL of a folder or of a Git repository, or of its archive (.tar.gz)"
            yield uri.problem(Code.URI_INVALID, cause)
        yield from check_authentication(context, endpoint.at("authentication"))


def _groups(document: Part) -> Iterator[Problem]:
    """Check that events of which one runs, or that one execution runs for, have nothing of their own."""
    replies = document.at("webhook", "respond", "mode").value == "reply"
    for name in ("debounce", "batch"):
        group = document.at("execution", name)
        if group.value is not None and replies:
            cause = "an event that another one runs for has no reply: leave `respond.mode: reply` out, or this"
            yield group.problem(Code.KEY_CONFLICT, cause)
    if document.at("execution", "batch").value is None:
        return
    for keys in (("debounce",), ("order_by",), ("rate", "key"), ("concurrency", "key"), ("priority",)):
        part = document.at("execution", *keys)
        if part.value is not None and not isinstance(part.value, int):
            cause = f"the events of a batch have one execution: `{'.'.join(keys)}` of each says nothing about it"
            yield part.problem(Code.KEY_CONFLICT, cause)


def _extensions(context: RuleContext, extensions: Part) -> Iterator[Problem]:
    yield from repeated_names(extensions.named_items, "extension")
    for _, extension in extensions.named_items:
        yield from extension.null_keys()
        yield from context.expression(extension.at("when"), TASK_INPUT_VARIABLES)
        for key in ("before", "after"):
            yield from tasks.check_tasks(context, extension.at(key))


def _raw_bodies(document: Part) -> Iterator[Problem]:
    """Yield the expressions that read an unparsed body: null in flows that were stored before this check existed."""
    webhook = document.at("webhook")
    parts = []
    if webhook.at("parse").value == "raw":
        accepting = webhook.at("accept", "filter")
        if isinstance(accepting.value, str) and _BODY.search(accepting.value):
            yield accepting.problem(Code.BODY_NOT_PARSED, CAUSE)
        parts.append(document.at("execution", "order_by"))
        parts += [document.at("execution", name, "key") for name in ("rate", "concurrency", "debounce", "batch")]
        parts.append(document.at("execution", "priority"))
        for _, path in document.at("execution", "search").members:
            if isinstance(path.value, str) and _reads_body(path.value):
                yield path.problem(Code.BODY_NOT_PARSED, CAUSE)
    for endpoint in (webhook, *(callback for _, callback in webhook.at("callbacks").members)):
        if endpoint.at("parse").value == "raw":
            parts += [endpoint.at(*keys) for keys in (("dedupe", "key"), ("respond", "headers"), ("respond", "body"))]
    for part in parts:
        for place, text in strings_in(part.value, part.path):
            if is_expression(text) and _reads_body(text):
                yield Problem(place, Code.BODY_NOT_PARSED, CAUSE)


def _reads_body(expression: str) -> bool:
    try:
        return any(path[:1] == ("body",) for path in paths_in(strip_markers(expression)))
    except InvalidExpression:  # reported by the check of its shape
        return False
