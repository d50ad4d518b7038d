"""What a `catch` is meant for and never comes is reported, and nothing that may come."""

from __future__ import annotations

import pytest

from flowhook.document.diagnostics.lint import unraised_types
from flowhook.document.diagnostics.problems import Code
from flowhook.document.loader import parse
from flowhook.model.error_types import ERROR_TYPE_BASE, Kind, spellings

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
USE = """use:
  errors: {gone: {type: https://e.com/gone, status: 410}}
  functions:
    own: {call: http, with: {method: get, endpoint: https://e.com}}
    nested: {do: [{x: {call: own}}]}
    plain: {set: {a: 1}}
    endless: {do: [{x: {call: endless2}}]}
    endless2: {do: [{x: {set: {a: 1}}}]}
  retries:
    late: {when: '$error.type == "https://e.com/late"', limit: {attempt: {count: 1}}}
    gone: {when: '$error.type == "https://e.com/gone"', limit: {attempt: {count: 1}}}
"""
COMMUNICATION, TIMEOUT = (ERROR_TYPE_BASE + kind for kind in (Kind.COMMUNICATION, Kind.TIMEOUT))
GONE = "https://e.com/gone"
HTTP = "{call: http, with: {method: get, endpoint: 'https://e.com'}}"
RAISE = "{raise: {error: {type: https://e.com/gone, status: 410}}}"
PLAIN = "{set: {a: 1}}"


def reported(task, catch, *, more=""):
    """Return the keys within `catch`, and the causes, of what is reported of a `try` with one task."""
    text = f"{HEAD}{USE}{more}do:\n  - t: {{try: [{{b: {task}}}], catch: {{{catch}}}}}\n"
    found = list(unraised_types(parse(text.encode(), functions={"acme.ping", "twitter.post"}).definition))
    assert {each.code for each in found} <= {Code.ERROR_NOT_RAISED}
    return [(".".join(map(str, each.path[4:])), each.cause) for each in found]


def of_type(type_):
    return f"errors: {{with: {{type: '{type_}'}}}}"


@pytest.mark.parametrize(
    ("task", "type_"),
    [
        *((HTTP, type_) for type_ in spellings(COMMUNICATION)),
        *((PLAIN, ERROR_TYPE_BASE + kind) for kind in (Kind.EXPRESSION, Kind.VALIDATION, Kind.RUNTIME)),
        ("{call: twitter.post, with: {text: a}}", COMMUNICATION),
        ("{call: own}", COMMUNICATION),
        ("{call: nested}", COMMUNICATION),
        ("{call: acme.ping}", GONE),
        ("{run: {workflow: {namespace: default, name: other}}}", GONE),
        ("{run: {shell: {command: ls}}}", TIMEOUT),
        ("{emit: {event: {with: {type: a}}}, metadata: {sink: 'https://e.com'}}", COMMUNICATION),
        ("{wait: PT1H, timeout: {after: PT1S}}", TIMEOUT),
        (RAISE, GONE),
        ("{raise: {error: gone}}", GONE),
        ("{raise: {error: '${ .problem }'}}", GONE),
        ("{raise: {error: {type: '${ .type }', status: 400}}}", GONE),
        (f"{{do: [{{c: {{fork: {{branches: [{{d: {RAISE}}}]}}}}}}]}}", GONE),
        (f"{{try: [{{c: {PLAIN}}}], catch: {{do: [{{d: {RAISE}}}]}}}}", GONE),
        (f"{{listen: {{to: {{one: {{with: {{type: a}}}}}}}}, foreach: {{do: [{{c: {HTTP}}}]}}}}", COMMUNICATION),
    ],
)
def test_what_a_task_may_raise_is_not_reported(task, type_):
    assert reported(task, of_type(type_)) == []


@pytest.mark.parametrize(
    ("task", "type_"),
    [
        *((PLAIN, type_) for type_ in spellings(COMMUNICATION)),
        (PLAIN, TIMEOUT),
        (PLAIN, GONE),
        (HTTP, GONE),
        ("{call: plain}", COMMUNICATION),
        ("{call: endless}", COMMUNICATION),
        ("{wait: PT1H}", TIMEOUT),
        ("{listen: {to: {one: {with: {type: a}}}}}", COMMUNICATION),
        (RAISE, COMMUNICATION),
    ],
)
def test_what_no_task_can_raise_is_reported(task, type_):
    ((key, cause),) = reported(task, of_type(type_))
    assert (key, cause[: 33 + len(type_)]) == (
        "errors.with.type",
        f"no task of this `try` can raise {type_}"[: 33 + len(type_)],
    )


def test_a_slip_of_the_pen_comes_with_what_was_meant():
    for task, type_, meant in (
        (RAISE, "https://e.com/gonne", GONE),
        (HTTP, "https://serverlessworkflow.io.io/dsl/errors/types/communication", spellings(COMMUNICATION)[3]),
    ):
        ((_, cause),) = reported(task, of_type(type_))
        assert cause == f"no task of this `try` can raise {type_}, did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("catch", "key"),
    [
        ("when: '$error.type == \"https://e.com/late\"'", "when"),
        ("retry: {when: '$error.type == \"https://e.com/late\"'}", "retry.when"),
        ("retry: late", "retry"),
        (f"when: '$error.type == \"{ERROR_TYPE_BASE}timout\"'", "when"),
        ("retry: gone", None),
        ('when: \'$error.type == "https://e.com/late" or $error.type == "https://e.com/gone"\'', None),
        ("when: $error.status == 503", None),
        ("retry: {when: $error.status == 503, limit: {attempt: {count: 1, duration: PT1S}}}", None),
    ],
)
def test_conditions_are_looked_at_too(catch, key):
    assert [found for found, _ in reported(RAISE, catch)] == ([] if key is None else [key])


def test_a_limit_of_attempts_makes_timeouts():
    assert reported(PLAIN, f"{of_type(TIMEOUT)}, retry: {{limit: {{attempt: {{duration: PT1S}}}}}}") == []


def test_nothing_is_reported_where_extensions_add_tasks():
    more = "  extensions: [{log: {extend: set, before: [{x: {call: acme.ping}}]}}]\n"
    assert reported(PLAIN, of_type(GONE), more=more) == []
