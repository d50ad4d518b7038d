from __future__ import annotations

import re

import pytest
from pydantic import BaseModel
from support import pages
from support.cases import cases

from flowhook.document.definition import DIRECTIVES
from flowhook.document.diagnostics.rules import context, unsupported
from flowhook.document.models import authentication, calls, events, execution, tasks, webhook, workflow
from flowhook.document.models.auth import KINDS
from flowhook.document.models.credentials import HmacAuth, IdSource, JwtAuth, KeyReading, TimestampSource
from flowhook.errors import InvalidError
from flowhook.expressions.jq_check import FORBIDDEN_FUNCTIONS
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import strip_markers
from runner.components import email_send, webhook_send

PAGE = pages.text_of("flow-file.md")
NOT_SUPPORTED = PAGE.partition("## Not supported\n")[2].partition("\n## ")[0]


def names(mapping):
    return {key[-1] if isinstance(key, tuple) else key for key in mapping}


@cases(
    "name",
    sorted(
        names(unsupported.KEYS)
        | names(unsupported.PROCESSES)
        | names(unsupported.FUNCTIONS)
        | names(unsupported.AUTHENTICATIONS)
    ),
)
def test_what_is_refused_is_documented(name):
    assert re.search(rf"`(?:[\w.]+[. ])?(?:mode: )?{re.escape(name)}`", NOT_SUPPORTED)


def test_what_is_documented_as_refused_is_refused():
    table = {row[0]: set(re.findall(r"`([\w.-]+)`", row[1])) for row in pages.rows(NOT_SUPPORTED)}

    assert table["tasks"] == {f"run.{key}" for key in unsupported.PROCESSES}
    assert table["functions"] == names(unsupported.FUNCTIONS)


def keys_of(model: type[BaseModel], *, without=()):
    return [field.alias or name for name, field in model.model_fields.items() if name not in without]


def table_keys(section):
    return {row[0].strip("`") for row in pages.rows(section)}


def test_every_key_of_webhook_is_documented():
    section = PAGE.partition("## webhook\n")[2].partition("### auth")[0]
    grouped = ("respond", "dedupe", "rate_limit", "sender_rate_limit", "cors", "expect")
    keys = set(keys_of(webhook.Webhook, without=grouped))
    keys |= {f"expect.{key}" for key in keys_of(webhook.Expect)}
    keys |= {f"cors.{key}" for key in keys_of(webhook.Cors)}
    keys |= {f"accept.{key}" for key in keys_of(webhook.Accept, without=("otherwise",))}
    keys |= {f"accept.otherwise.{key}" for key in keys_of(webhook.Otherwise)}
    keys |= {f"respond.{key}" for key in keys_of(webhook.Respond, without=("on_fault",))}
    keys |= {f"respond.on_fault.{key}" for key in keys_of(webhook.OnFault)}
    keys |= {f"dedupe.{key}" for key in keys_of(webhook.Dedupe)}
    keys |= {f"{limit}.{key}" for limit in ("rate_limit", "sender_rate_limit") for key in keys_of(webhook.RateLimit)}

    assert table_keys(section) - {"key", "---"} == keys


def test_every_key_of_a_callback_is_documented():
    section = PAGE.partition("### callbacks\n")[2].partition("\n### ")[0]

    assert [key for key in keys_of(webhook.Callback) if f"`{key}`" not in section] == []


def test_every_key_of_a_schedule_is_documented():
    section = PAGE.partition("## schedule\n")[2].partition("\n## ")[0]

    assert table_keys(section) - {"key", "---"} == set(keys_of(events.Schedule))


def test_every_key_of_listen_is_documented():
    section = PAGE.partition("### listen\n")[2].partition("\n### ")[0]
    models = (
        events.ListenConfiguration,
        events.EventConsumptionStrategy,
        events.EventFilterDefinition,
        events.CorrelationDefinition,
    )
    keys = {key for model in (*models, events.EventProperties) for key in keys_of(model)}
    keys |= {"foreach", *keys_of(tasks.SubscriptionIterator)}

    assert {key for key in keys if not re.search(rf"`(\w+\.)*{key}(\.\w+)*`", section)} == set()


def test_every_key_of_emit_is_documented():
    section = PAGE.partition("### emit\n")[2].partition("\n### ")[0]

    assert {key for key in keys_of(events.EmittedProperties) if f"`{key}`" not in section} == set()


def test_every_key_of_authentication_is_documented():
    section = PAGE.partition("#### Authentication\n")[2].partition("\n### ")[0]
    models = (
        authentication.AuthenticationPolicy,
        authentication.OAuth2AuthenticationPolicy,
        authentication.OAuth2Client,
    )
    keys = {key for model in models for key in keys_of(model)}

    assert {key for key in keys if not re.search(rf"`{key}(\.\w+)?`", section)} == set()


@pytest.mark.parametrize("name", sorted(calls.FUNCTION_ARGUMENTS))
def test_every_argument_of_the_dsl_s_functions_is_documented(name):
    section = PAGE.partition(f"### call {name}\n")[2].partition("\n### ")[0]

    assert {key for key in keys_of(calls.FUNCTION_ARGUMENTS[name]) if f"`{key}`" not in section} == set()


def test_every_key_of_run_is_documented():
    section = PAGE.partition("### run\n")[2].partition("\n### ")[0]
    models = (tasks.RunConfiguration, tasks.Subflow, tasks.Script, tasks.Shell)
    keys = {key for model in models for key in keys_of(model)}

    assert {key for key in keys if not re.search(rf"`(run\.)?{key}`", section)} == set()


def test_every_key_of_the_document_is_documented():
    section = PAGE.partition("## The document\n")[2].partition("\n## ")[0]
    keys = {*keys_of(workflow.Workflow), *keys_of(workflow.Use), *keys_of(workflow.Document)}

    assert {key for key in keys if f"`{key}`" not in section} == set()


def test_every_key_of_an_extension_is_documented():
    section = PAGE.partition("### Extensions\n")[2].partition("\n## ")[0]

    assert table_keys(section) - {"key", "---"} == set(keys_of(workflow.Extension, without=("name",)))


def test_every_key_of_hmac_is_documented():
    section = PAGE.partition("#### hmac")[2].partition("\n#### ")[0]
    keys = set(keys_of(HmacAuth, without=("secret", "secrets", "timestamp", "id", "key")))
    keys |= {f"timestamp.{key}" for key in keys_of(TimestampSource)}
    keys |= {f"id.{key}" for key in keys_of(IdSource)} | {f"key.{key}" for key in keys_of(KeyReading)}

    assert table_keys(section) - {"key", "---"} == keys


def test_every_key_of_jwt_is_documented():
    section = PAGE.partition("#### jwt")[2].partition("\n#### ")[0]

    reported = {key for row in pages.rows(section) for key in re.findall(r"`(\w+)`", row[0])}
    assert reported == set(keys_of(JwtAuth))


def test_every_key_of_execution_is_documented():
    section = PAGE.partition("## execution\n")[2].partition("\n## ")[0]
    keys = set(keys_of(execution.ExecutionPolicy, without=("rate", "debounce", "batch", "retention")))
    keys |= {f"rate.{key}" for key in keys_of(execution.Rate)}
    keys |= {f"debounce.{key}" for key in keys_of(execution.Debounce)}
    keys |= {f"batch.{key}" for key in keys_of(execution.Batch)}
    keys |= {f"retention.{key}" for key in keys_of(execution.Retention)}
    keys |= {f"concurrency.{key}" for key in keys_of(execution.KeyedConcurrency)}

    keys |= {f"order_by.{key}" for key in keys_of(execution.Order)}
    assert table_keys(section) - {"key", "---"} == keys


@cases("kind", sorted(KINDS))
def test_every_kind_of_auth_has_its_section(kind):
    assert f"\n#### {kind}\n" in PAGE or (pages.DOCS / "providers" / f"{kind}.md").exists()


@cases("name", sorted(context.TASK_EXPORT_VARIABLES))
def test_every_variable_is_documented(name):
    assert f"| `${name}` |" in PAGE


@pytest.mark.parametrize("directive", sorted(DIRECTIVES))
def test_every_directive_is_documented(directive):
    assert f"`{directive}`" in PAGE


def test_functions_reported_as_refused_are_refused():
    reported = PAGE.partition("Refused when the flow is applied: ")[2].partition(", and whatever")[0]
    functions = {name.partition("/")[0] for name in FORBIDDEN_FUNCTIONS}

    assert set(re.findall(r"`(\w+)`", reported)) - {"import", "include"} <= functions


def test_paths_are_what_the_page_says():
    section = PAGE.partition("### Paths")[2].partition("\n## ")[0]
    pairs = [row for row in pages.rows(section) if row[0].startswith("`${")]

    assert len(pairs) >= 4
    for fine, refused in pairs:
        compile_accessor(strip_markers(fine.strip("`")))
        with pytest.raises(InvalidError):
            compile_accessor(strip_markers(refused.strip("`")))


@pytest.mark.parametrize(
    ("component", "arguments"),
    [(webhook_send, webhook_send.EvaluatedWebhookSendArguments), (email_send, email_send.EvaluatedEmailSendArguments)],
)
def test_every_argument_of_a_component_that_sends_is_documented(component, arguments):
    name = component.send.name
    section = PAGE.partition(f"### call {name}\n")[2].partition("\n### ")[0]
    keys = {field.alias or key for key, field in arguments.model_fields.items()}

    assert [key for key in sorted(keys) if f"`{key}`" not in section] == []
    assert f"call: {name}" in section
