"""Derives from a flow's definition how it is reached, and within which limits; pure. See `flow_setup`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from flowhook.cron import next_cron
from flowhook.document.models.credentials import (
    ApiKeyAuth,
    AuthKind,
    BasicAuth,
    CustomSignature,
    JwtAuth,
    MtlsAuth,
    OneTimeUrlAuth,
)
from flowhook.document.models.execution import ExecutionPolicy, KeyedConcurrency, Rate
from flowhook.document.models.webhook import InboundEndpoint, RateLimit, Webhook
from flowhook.document.named_secrets import parse_names
from flowhook.document.quantities import parse_duration
from flowhook.limits import KIB, MIB
from flowhook.model import Flow, to_datetime
from flowhook.model.own_urls import below, shown_url
from flowhook.providers.table import PROVIDERS
from operations.diagram import reading
from operations.flow_setup import AuthSetup, EndpointSetup, FlowLimit, FlowSetup, SecretState
from operations.provider_setup import setup_steps

TIMES: Final = 5  # times of a schedule that are computed
SECOND_MS: Final = 1000


def describe(flow: Flow, base: str, times: Mapping[str, datetime]) -> FlowSetup:
    """Return how a flow is reached, whose definition is there.

    `base` is the scheme, host and port that senders use, or empty; `times` says when secrets were set, by name.
    """
    definition = orjson.loads(flow.definition)
    webhook = Webhook.model_validate(definition["webhook"]) if definition.get("webhook") else None
    policy = ExecutionPolicy.model_validate(definition.get("execution") or {})
    return FlowSetup(
        tuple(_endpoints(flow.id, base, webhook, times)) if webhook else (),
        _states(sorted(parse_names(flow.definition).all), times),
        tuple(_limits(definition, webhook, policy)),
        tuple(_next_times(flow, definition.get("schedule") or {})),
    )


def _states(names: Sequence[str], times: Mapping[str, datetime]) -> tuple[SecretState, ...]:
    return tuple(SecretState(name, times.get(name)) for name in names)


def _endpoints(flow_id: str, base: str, webhook: Webhook, times: Mapping[str, datetime]) -> Iterator[EndpointSetup]:
    url = shown_url(base, flow_id, webhook.own_url)
    yield _endpoint("", url, webhook, times, f"flowhook send {flow_id} --data '{{}}'")
    for name, callback in webhook.callbacks.items():
        yield _endpoint(name, f"{below(url)}{name}", callback, times, "")


def _endpoint(
    callback: str, url: str, endpoint: InboundEndpoint, times: Mapping[str, datetime], signed: str
) -> EndpointSetup:
    setups = tuple(
        AuthSetup(
            kind.kind,
            tuple(_steps(kind, url)),
            PROVIDERS[kind.kind].source if kind.kind in PROVIDERS else "",
            _states((*kind.secret_names, *kind.other_secret_names), times),
        )
        for kind in endpoint.auth
    )
    method = f"-X {endpoint.methods[0]} " if endpoint.methods[0] != "POST" else ""
    open_command = f"curl -i {method}{shlex.quote(url)} -H 'Content-Type: application/json' -d '{{}}'"
    return EndpointSetup(callback, url, endpoint.methods, setups, signed if setups else open_command)


def _steps(kind: AuthKind, url: str) -> Iterator[str]:
    secret = next(iter((*kind.secret_names, *kind.other_secret_names)), "")
    if kind.kind in PROVIDERS:
        yield from setup_steps(kind.kind, url, secret)
        return
    if isinstance(kind, OneTimeUrlAuth):
        yield "Only the one-time URLs that executions hand out are accepted; they need no credentials."
        return
    yield f"Let the sender make its requests to {url}."
    match kind:
        case BasicAuth():
            yield f"It authenticates by HTTP Basic: user name {kind.username}, and as password the value of {secret}."
        case ApiKeyAuth():
            yield f"It sends the value of the secret {secret} as {_place(kind.header, kind.query, kind.field)}."
        case MtlsAuth():
            yield f"It shows a TLS client certificate for one of these names: {', '.join(kind.names)}."
        case JwtAuth():
            yield f"It sends a JSON Web Token in the header {kind.header}."
        case CustomSignature():
            place = _place(kind.header or kind.numbered_header, kind.query, kind.field)
            by = f"with the value of the secret {secret}" if secret else "with its private key"
            yield f"It signs {kind.content} {by}, and sends the signature as {place}."


def _place(header: str | None, query: str | None, field: str | None) -> str:
    if header:
        return f"the header {header}"
    return f"the query parameter {query}" if query else f"the field {field} of the body"


def _limits(definition: Mapping[str, Any], webhook: Webhook | None, policy: Any) -> Iterator[FlowLimit]:
    given = policy.model_fields_set
    yield FlowLimit("concurrency", _concurrency(policy.concurrency), "concurrency" not in given)
    if policy.rate is not None:
        yield FlowLimit("rate of executions", _execution_rate(policy.rate), is_default=False)
    yield FlowLimit("backlog", f"{policy.max_backlog:,} unfinished executions", "max_backlog" not in given)
    if policy.debounce is not None:
        each = policy.debounce
        said = f"the {each.take} of each {each.key}, {_span(each.period)} after the last"
        yield FlowLimit("debounce", said, is_default=False)
    if policy.batch is not None:
        each = policy.batch
        by = f" of each {each.key}" if each.key else ""
        said = f"{each.size:,} events{by} together, or what came within {_span(each.period)}"
        yield FlowLimit("batch", said, is_default=False)
    if policy.priority:
        priority = f"by {policy.priority}" if isinstance(policy.priority, str) else f"{policy.priority} among flows"
        yield FlowLimit("priority", priority, is_default=False)
    if policy.order_by is not None:
        order = policy.order_by
        by, kept = (
            (order, "") if isinstance(order, str) else (order.key, ", held after a fault" * (order.on_fault == "hold"))
        )
        yield FlowLimit("order", f"one after another by {by}{kept}", is_default=False)
    timeout = definition.get("timeout")
    yield FlowLimit("timeout", reading.timeout_text(timeout) or "none", timeout is None)
    if webhook is None:
        return
    given = webhook.model_fields_set
    yield FlowLimit("rate", _rate(webhook.rate_limit), "rate_limit" not in given)
    yield FlowLimit("rate of a sender", _rate(webhook.sender_rate_limit), "sender_rate_limit" not in given)
    yield FlowLimit("body", _bytes(webhook.max_body), "max_body" not in given)
    if webhook.allow_from:
        yield FlowLimit("addresses", ", ".join(map(str, webhook.allow_from)), is_default=False)
    if webhook.respond.mode == "reply":
        span = _span(webhook.respond.timeout)
        yield FlowLimit("wait for a reply", span, "timeout" not in webhook.respond.model_fields_set)
    window = _span(webhook.dedupe.window) if webhook.dedupe.enabled else "never"
    yield FlowLimit("repeated deliveries are recognised", window, "dedupe" not in given)


def _concurrency(concurrency: int | KeyedConcurrency | None) -> str:
    match concurrency:
        case None:
            return "as many as runners take"
        case int():
            return f"{concurrency:,} at a time"
    return f"{concurrency.limit:,} at a time for each {concurrency.key}"


def _execution_rate(rate: Rate) -> str:
    key = f" for each {rate.key}" if rate.key else ""
    return f"{rate.limit:,} in {_span(rate.per)}{key}, bursts of {rate.burst:,}; others wait"


def _rate(limit: RateLimit | None) -> str:
    return "none" if limit is None else f"{limit.per_second:g} a second, bursts of {limit.burst:,}"


def _bytes(count: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count:,} bytes"


def _span(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def _next_times(flow: Flow, schedule: Mapping[str, Any]) -> Iterator[datetime]:
    """Yield the next times at which the schedule starts the flow; the router knows the first, others follow from it."""
    timezone = schedule.get("timezone", "UTC")
    due = flow.next_time_ms
    if due is None:  # no router has computed it yet
        if "cron" not in schedule:
            return
        due = next_cron(schedule["cron"], int(time.time() * SECOND_MS), timezone)
    yield to_datetime(due)
    for _ in range(TIMES - 1):
        if "cron" in schedule:
            due = next_cron(schedule["cron"], due, timezone)
        elif "every" in schedule:
            due += max(1, round(parse_duration(schedule["every"]) * SECOND_MS))
        else:
            return
        yield to_datetime(due)
