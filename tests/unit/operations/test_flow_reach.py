"""How a flow is reached: URLs, steps, secrets, limits and times, from its definition."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from support.cases import cases

from flowhook.document.loader import parse
from flowhook.model import Flow
from operations import flow_reach

HEAD = "document: {dsl: 1.0.3, namespace: default, name: shop, version: 1.0.0}\ndo: [{a: {set: {b: 1}}}]\n"
SET = datetime(2026, 11, 27, tzinfo=UTC)


def describe(text, base="https://hooks.example.com", next_time_ms=None, **secrets):
    document = parse((HEAD + text).encode())
    flow = Flow(
        "shop", b"", orjson.dumps(document.definition), 1, False, document.webhook is not None, 0, 0, next_time_ms
    )
    return flow_reach.describe(flow, base, {name.replace("_", "-"): time for name, time in secrets.items()})


def limits(text):
    return {limit.name: (limit.value, limit.is_default) for limit in describe(text).limits}


def test_a_flow_without_a_webhook_has_no_url():
    setup = describe("use: {secrets: [token]}\n", token=SET)
    assert setup.endpoints == ()
    assert [(secret.name, secret.updated_at) for secret in setup.secrets] == [("token", SET)]


def test_the_url_and_the_steps_of_a_provider_and_which_secrets_are_set():
    setup = describe("webhook: {auth: {meta: {secrets: [new, old], verify_token: check}}}\n", new=SET)
    (endpoint,) = setup.endpoints
    assert (endpoint.callback, endpoint.url) == ("", "https://hooks.example.com/hook/shop")
    (auth,) = endpoint.auth
    assert auth.kind == "meta"
    assert any("https://hooks.example.com/hook/shop" in step for step in auth.steps)
    assert any("set the app secret as the secret new" in step for step in auth.steps)
    assert auth.source.startswith("https://developers.facebook.com/")
    states = [("new", SET), ("old", None), ("check", None)]
    assert [(secret.name, secret.updated_at) for secret in auth.secrets] == states
    assert [secret.name for secret in setup.secrets] == ["check", "new", "old"]
    assert endpoint.command == "flowhook send shop --data '{}'"


def test_a_flow_that_anybody_may_send_to_has_a_command_for_curl():
    (endpoint,) = describe("webhook: {auth: none, methods: [PUT]}\n").endpoints
    assert endpoint.auth == ()
    assert endpoint.command == (
        "curl -i -X PUT https://hooks.example.com/hook/shop -H 'Content-Type: application/json' -d '{}'"
    )


def test_without_a_public_url_there_is_the_path():
    assert describe("webhook: {auth: none}\n", base="").endpoints[0].url == "/hook/shop"


def test_callbacks_have_urls_of_their_own():
    text = "webhook: {auth: none, callbacks: {paid: {}, seen: {auth: {api_key: {header: X-Key, secret: key}}}}}\n"
    _, paid, seen = describe(text).endpoints
    assert (paid.callback, paid.url) == ("paid", "https://hooks.example.com/hook/shop/paid")
    assert "one-time" in paid.auth[0].steps[0]
    assert seen.auth[0].steps[-1] == "It sends the value of the secret key as the header X-Key."


@cases(
    ("auth", "said"),
    [
        ("{basic: {username: bank, secret: pw}}", "user name bank, and as password the value of pw"),
        ("{api_key: {query: key, secret: pw}}", "the query parameter key"),
        ("{api_key: {field: a.b, secret: pw}}", "the field a.b of the body"),
        ("{mtls: {names: [a.example]}}", "a.example"),
        ("{jwt: {secret: pw}}", "in the header Authorization"),
        ("{hmac: {header: X-Sign, secret: pw}}", "signs {body} with the value of the secret pw"),
        ("{public_key: {algorithm: ed25519, header: X-Sign, key: " + "ab" * 32 + "}}", "with its private key"),
    ],
)
def test_kinds_that_are_no_provider_say_what_the_sender_has_to_do(auth, said):
    (endpoint,) = describe(f"webhook: {{auth: {auth}}}\n").endpoints
    assert said in endpoint.auth[0].steps[-1]


def test_limits_are_those_of_the_file_or_the_defaults():
    assert limits("") == {
        "concurrency": ("as many as runners take", True),
        "backlog": ("1,000,000 unfinished executions", True),
        "timeout": ("none", True),
    }
    given = limits(
        "timeout: {after: {minutes: 5}}\n"
        "execution: {concurrency: 20, order_by: '${ .body.account }', max_backlog: 5}\n"
        "webhook: {auth: none, respond: {mode: reply, timeout: PT90S}, dedupe: {key: '${ .body.id }', window: PT1H},\n"
        "  rate_limit: {per_second: 100, burst: 200}, max_body: 1MiB, allow_from: [192.0.2.0/24]}\n"
    )
    assert given == {
        "concurrency": ("20 at a time", False),
        "backlog": ("5 unfinished executions", False),
        "order": ("one after another by ${ .body.account }", False),
        "timeout": ("5 minutes", False),
        "rate": ("100 a second, bursts of 200", False),
        "rate of a sender": ("none", True),
        "body": ("1 MiB", False),
        "addresses": ("192.0.2.0/24", False),
        "wait for a reply": ("90 s", False),
        "repeated deliveries are recognised": ("1 h", False),
    }


def test_what_shapes_executions_is_among_the_limits():
    given = limits(
        "execution: {concurrency: {limit: 2, key: '${ .body.account }'}, priority: '${ .body.urgency }',\n"
        "  rate: {limit: 50, per: PT1M, burst: 5, key: '${ .body.host }'}}\n"
        "webhook: {auth: none}\n"
    )
    assert given["concurrency"] == ("2 at a time for each ${ .body.account }", False)
    assert given["rate of executions"] == ("50 in 1 min for each ${ .body.host }, bursts of 5; others wait", False)
    assert given["priority"] == ("by ${ .body.urgency }", False)
    debounced = limits("execution: {debounce: {key: '${ .a }', period: PT5S}}\n")["debounce"]
    assert debounced == ("the latest of each ${ .a }, 5 s after the last", False)
    assert limits("execution: {priority: 3}\n")["priority"] == ("3 among flows", False)


def times(schedule, next_time=None):
    milliseconds = None if next_time is None else int(next_time.timestamp() * 1000)
    return [f"{time:%Y-%m-%d %H:%M}" for time in describe(f"schedule: {schedule}\n", "", milliseconds).next_times]


def test_the_next_times_follow_from_the_first():
    first = datetime(2026, 11, 30, 9, tzinfo=UTC)
    assert times("{cron: '0 9 * * MON'}", first) == [
        "2026-11-30 09:00", "2026-12-07 09:00", "2026-12-14 09:00", "2026-12-21 09:00", "2026-12-28 09:00",
    ]  # fmt: skip
    assert times("{every: {hours: 6}}", first)[:2] == ["2026-11-30 09:00", "2026-11-30 15:00"]
    assert times("{after: {hours: 6}}", first) == ["2026-11-30 09:00"]
    assert len(times("{cron: '0 9 * * MON'}")) == 5
    assert times("{every: {hours: 6}}") == times("{on: {one: {with: {type: paid}}}}") == []
