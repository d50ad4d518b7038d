from __future__ import annotations

from ipaddress import ip_network

import pytest
from pydantic import ValidationError
from support.cases import cases

from flowhook import limits
from flowhook.document.models.webhook import Dedupe, RateLimit, Respond, Webhook


def webhook(**keys):
    return Webhook.model_validate({"auth": "none", **keys})


def faults(**keys):
    """Return what is wrong, as pairs of the dotted place and the code; not which defaults are unknown because of it."""
    with pytest.raises(ValidationError) as refusal:
        webhook(**keys)
    found = [(".".join(map(str, error["loc"])), error["type"]) for error in refusal.value.errors()]
    return [(place, code) for place, code in found if code != "default_factory_not_called"]


def fault(**keys):
    (found,) = faults(**keys)
    return found


def test_a_webhook_that_says_nothing_more_has_the_documented_defaults():
    made = webhook()
    assert made.auth == ()
    assert made.methods == ("POST",)
    assert made.respond == Respond(mode="accept", status=202, headers={}, body={"id": "${ .id }"})
    assert made.respond.timeout == 30.0
    assert made.respond.on_fault.status == 502
    assert made.dedupe == Dedupe(window="PT24H")
    assert (made.dedupe.enabled, made.dedupe.window) == (True, 86_400.0)
    assert made.rate_limit is None
    assert made.max_body == limits.DEFAULT_BODY_BYTES
    assert (made.allow_from, made.subpaths, made.callbacks) == ((), False, {})


def test_everything_that_the_design_lists_is_understood():
    made = webhook(
        auth={"hmac": {"secrets": ["new-one", "old-one"], "header": "X-Signature"}},
        methods=["POST", "GET"],
        subpaths=True,
        respond={
            "mode": "reply",
            "headers": {"X-Thanks": "yes", "X-Id": "${ .id }"},
            "timeout": "PT10S",
            "on_fault": {"status": 404},
        },
        dedupe={"key": '${ .headers["webhook-id"] }', "window": "PT1H"},
        rate_limit={"per_second": 100, "burst": 200},
        max_body="10MiB",
        allow_from=["192.0.2.0/24", "2001:db8::1"],
        callbacks={"approval": {"auth": {"api_key": {"header": "X-Api-Key", "secret": "NAME"}}}},
    )
    assert made.secret_names() == {"new-one", "old-one", "NAME"}
    assert (made.respond.status, made.respond.body, made.respond.timeout) == (200, None, 10.0)
    assert made.respond.on_fault.status == 404
    assert made.rate_limit == RateLimit(per_second=100, burst=200)
    assert made.allow_from == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))
    assert made.callbacks["approval"].methods == ("POST",)


def test_a_key_that_does_not_exist_is_refused():
    assert fault(responds={})[0] == "responds"
    assert fault(respond={"code": 200})[0] == "respond.code"


def test_keys_of_mode_reply_are_refused_in_mode_accept():
    assert faults(respond={"timeout": "PT1S", "on_fault": {"status": 404}}) == [
        ("respond.timeout", "KEY_CONFLICT"),
        ("respond.on_fault", "KEY_CONFLICT"),
    ]


def test_mode_reply_has_no_body_of_its_own():
    assert fault(respond={"mode": "reply", "body": {"ok": True}}) == ("respond.body", "RESPONSE_INVALID")


@pytest.mark.parametrize("value", ["${ .id }", '${ "id \\(.id) \\" \\u00e9" }', '${ "fixed" }', "fixed"])
def test_a_flow_that_answers_may_show_its_id(value):
    respond = {"mode": "reply", "headers": {"X-A": value}, "on_fault": {"headers": {"X-A": value}, "body": [value]}}
    assert webhook(respond=respond).respond.on_fault.body == [value]


@pytest.mark.parametrize("value", ["${ .body.id }", '${ "\\(.id) \\(.body)" }', "${ . }", '${ "\\(.id.x)" }'])
def test_a_flow_that_answers_knows_nothing_but_its_id(value):
    found = faults(respond={"mode": "reply", "headers": {"X-A": value}})
    found += faults(respond={"mode": "reply", "on_fault": {"headers": {"X-A": value}, "body": {"b": [value]}}})
    assert [place for place, _ in found] == [
        "respond.headers.X-A",
        "respond.on_fault.headers.X-A",
        "respond.on_fault.body.b.0",
    ]
    assert {code for _, code in found} == {"EXPRESSION_NOT_ALLOWED"}


@pytest.mark.parametrize("timeout", ["PT0S", "PT2H"])
def test_a_sender_is_held_for_a_while_and_not_for_ever(timeout):
    assert fault(respond={"mode": "reply", "timeout": timeout})[0] == "respond.timeout"


def test_a_fault_without_content_has_no_body():
    assert fault(respond={"mode": "reply", "on_fault": {"status": 204, "body": "x"}})[0] == "respond.on_fault.body"


@pytest.mark.parametrize(
    ("methods", "place", "code"),
    [
        ([], "methods", "VALUE_RANGE"),
        (["post"], "methods.0", "VALUE_CHOICE"),
        (["POST", "TRACE"], "methods.1", "VALUE_CHOICE"),
        (["HEAD"], "methods.0", "VALUE_CHOICE"),
        (["GET", "GET"], "methods", "NAME_DUPLICATE"),
    ],
)
def test_methods_are_a_choice_of_five(methods, place, code):
    assert fault(methods=methods) == (place, code)


@cases("status", [200, 204, 301, 404, 418, 503, 599])
def test_an_answer_may_have_any_final_status(status):
    assert webhook(respond={"status": status}).respond.status == status


@cases("status", [100, 199, 600, "200", True, 200.5])
def test_other_statuses_are_refused(status):
    assert fault(respond={"status": status})[0] == "respond.status"


@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_that_can_have_no_body_has_none(status):
    assert webhook(respond={"status": status}).respond.body is None
    assert fault(respond={"status": status, "body": {"ok": True}}) == ("respond.body", "RESPONSE_INVALID")


@pytest.mark.parametrize("name", ["Content-Length", "connection", "Transfer-Encoding", "TE", "upgrade"])
def test_headers_that_belong_to_the_server_are_refused(name):
    assert fault(respond={"headers": {name: "1"}}) == (f"respond.headers.{name}", "HEADER_INVALID")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\0", "grüße"])
def test_a_header_value_that_is_more_than_a_line_of_ascii_is_refused(value):
    assert fault(respond={"headers": {"X-A": value}})[0] == "respond.headers.X-A"


def test_header_names_are_tokens_and_there_once():
    assert fault(respond={"headers": {"X A": "1"}})[0] == "respond.headers.X A"
    assert fault(respond={"headers": {"X-A": "1", "x-a": "2"}})[0] == "respond.headers.x-a"


@cases("body", ["OK", "", {"a": [1, None, True, {"b": "${ .body.x }"}]}, [1], 7, None, '${ "\\(.id)" }'])
def test_a_body_is_json_or_a_string(body):
    assert webhook(respond={"body": body}).respond.body == body


def test_expressions_that_are_no_paths_are_refused_where_they_stand():
    found = faults(
        respond={"body": {"a": ["${ .id }", "${ .items | length }"]}, "headers": {"X-N": "${ env }"}},
        dedupe={"key": "${ now }"},
    )
    assert [place for place, _ in found] == ["respond.headers.X-N", "respond.body.a.1", "dedupe.key"]


def test_dedupe_takes_an_expression_or_none():
    assert webhook(dedupe={"key": "${ .body.id }"}).dedupe.enabled
    assert not webhook(dedupe={"key": "none"}).dedupe.enabled
    for key in (".body.id", "", None, "None", 5):
        assert fault(dedupe={"key": key}) == ("dedupe.key", "EXPRESSION_REQUIRED")


def test_dedupe_without_a_key_needs_senders_that_name_their_deliveries():
    assert webhook(auth={"github": {"secret": "k"}}, dedupe={"window": "PT1H"}).dedupe.window == 3600.0
    named = {"hmac": {"secret": "k", "header": "X-Sig", "id": {"header": "X-Event"}}}
    assert webhook(auth=named, dedupe={"window": "PT1H"}).dedupe.key is None
    for auth in ("none", {"api_key": {"query": "k", "secret": "k"}}):  # these may send an Idempotency-Key
        assert webhook(auth=auth, dedupe={"window": "PT1H"}).dedupe.key is None
    assert fault(auth={"hmac": {"secret": "k", "header": "X-Sig"}}, dedupe={"window": "PT1H"})[0] == "dedupe"


@pytest.mark.parametrize("window", ["P8D", "PT0S", "24h", 3600])
def test_the_window_of_dedupe_is_a_duration_of_at_most_a_week(window):
    assert fault(dedupe={"key": "${ .body.id }", "window": window})[0] == "dedupe.window"


def test_a_rate_has_a_burst_of_a_second_unless_it_says_otherwise():
    assert webhook(rate_limit={"per_second": 2.5}).rate_limit.burst == 3
    assert webhook(rate_limit={"per_second": 0.1}).rate_limit.burst == 1


@cases(
    ("rate", "place"),
    [
        ({}, "per_second"),
        ({"per_second": 0}, "per_second"),
        ({"per_second": -1}, "per_second"),
        ({"per_second": float("nan")}, "per_second"),
        ({"per_second": float("inf")}, "per_second"),
        ({"per_second": "10"}, "per_second"),
        ({"per_second": 1, "burst": 0}, "burst"),
        ({"per_second": 1, "burst": 1.5}, "burst"),
    ],
)
def test_rates_that_make_no_sense_are_refused(rate, place):
    assert fault(rate_limit=rate)[0] == f"rate_limit.{place}"


@pytest.mark.parametrize(("size", "expected"), [("512KiB", 524_288), (1, 1), ("1GiB", limits.MAX_STREAMED_BODY_BYTES)])
def test_sizes_are_bytes(size, expected):
    assert webhook(max_body=size).max_body == expected


@pytest.mark.parametrize("size", ["1025MiB", 0, "2GiB"])
def test_a_size_that_can_not_be_stored_names_the_most_there_is(size):
    assert fault(max_body=size) == ("max_body", "VALUE_RANGE")


@pytest.mark.parametrize("size", ["10 megs", -1, True, None, []])
def test_a_size_that_is_none_is_refused(size):
    assert fault(max_body=size)[0] == "max_body"


def test_an_answer_has_one_origin_that_may_read_it():
    cors, headers = {"origins": ["*"]}, {"access-control-Allow-Origin": "*"}
    assert fault(cors=cors, respond={"headers": headers}) == ("cors", "KEY_CONFLICT")
    in_reply = {"mode": "reply", "on_fault": {"headers": headers}}
    assert fault(cors=cors, respond=in_reply) == ("cors", "KEY_CONFLICT")
    assert webhook(respond={"headers": headers}).cors is None


def test_networks_are_of_both_families_and_mapped_ones_are_ipv4():
    made = webhook(allow_from=["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:10.0.0.0/104", "::/0"])
    expected = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "10.0.0.0/8", "::/0"]
    assert [str(network) for network in made.allow_from] == expected


@pytest.mark.parametrize(
    ("networks", "place", "code"),
    [
        ([], "allow_from", "VALUE_RANGE"),
        (["192.0.2.1/24"], "allow_from.0", "VALUE_FORMAT"),
        (["192.0.2.0/24", "example.com"], "allow_from.1", "VALUE_FORMAT"),
        ([3232235777], "allow_from.0", "VALUE_TYPE"),
        (["192.0.2.0/33"], "allow_from.0", "VALUE_FORMAT"),
    ],
)
def test_what_is_no_network_is_refused(networks, place, code):
    assert fault(allow_from=networks) == (place, code)


def test_subpaths_are_a_boolean():
    assert fault(subpaths="yes")[0] == "subpaths"


def test_a_callback_is_checked_like_a_webhook():
    assert fault(callbacks={"approval": {"auth": {"github": {}}}})[0] == "callbacks.approval.auth.github"
    assert fault(callbacks={"approval": {"auth": "none", "subpaths": True}})[0] == "callbacks.approval.subpaths"


@pytest.mark.parametrize(
    ("settings", "only"),
    [
        ({}, True),
        ({"auth": "one_time_url"}, True),
        ({"auth": "none"}, False),
        ({"auth": {"github": {"secret": "a"}}}, False),
    ],
)
def test_a_callback_without_auth_has_one_time_urls_alone(settings, only):
    assert webhook(callbacks={"approval": settings}).callbacks["approval"].only_one_time is only


@cases(
    ("settings", "place", "code"),
    [
        ({"auth": "one_time_url"}, "auth", "AUTH_INVALID"),
        ({"auth": ["one_time_url", {"github": {"secret": "a"}}]}, "auth.0", "AUTH_INVALID"),
        ({"callbacks": {"a": {"auth": ["one_time_url"]}}}, "callbacks.a.auth.0", "AUTH_INVALID"),
        ({"callbacks": {"a": {"auth": {"one_time_url": {}}}}}, "callbacks.a.auth.one_time_url", "AUTH_INVALID"),
        ({"callbacks": {"a": {"deliver": "all"}}}, "callbacks.a.deliver", "KEY_CONFLICT"),
        ({"callbacks": {"a": {"auth": "none", "deliver": "some"}}}, "callbacks.a.deliver", "literal_error"),
    ],
)
def test_one_time_url_is_for_callbacks_and_alone(settings, place, code):
    assert fault(**settings) == (place, code)


@pytest.mark.parametrize("name", ["approval", "v1.approved", "a" * 63, "7"])
def test_the_name_of_a_callback_is_a_segment_of_its_url(name):
    assert webhook(callbacks={name: {"auth": "none"}}).callbacks[name].respond.status == 202


@cases("name", ["", ".", "..", "a b", "a/b", "a%2fb", "a" * 64, "genehmigt-für"])
def test_a_callback_of_another_name_is_refused(name):
    assert fault(callbacks={name: {"auth": "none"}})[0].startswith(f"callbacks.{name}")


def test_a_callback_takes_less_than_a_webhook():
    made = webhook(callbacks={"a": {"auth": "none"}, "b": {"auth": "none", "max_body": "1MiB"}})
    assert [callback.max_body for callback in made.callbacks.values()] == [512 * 1024, 1024 * 1024]
    assert fault(callbacks={"a": {"auth": "none", "max_body": "1025KiB"}}) == ("callbacks.a.max_body", "VALUE_RANGE")


def test_callbacks_are_limited_in_number():
    some = {f"c{number}": {"auth": "none"} for number in range(limits.MAX_CALLBACKS)}
    assert len(webhook(callbacks=some).callbacks) == limits.MAX_CALLBACKS
    assert fault(callbacks={**some, "more": {"auth": "none"}})[0] == "callbacks"


def test_a_webhook_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        webhook().subpaths = True


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ("respond.body.x", {"respond": {"body": {"x": "${ $context.x }"}}}),
        ("respond.headers.X", {"respond": {"headers": {"X": '${ "a \\($secrets.x)" }'}}}),
        ("dedupe.key", {"dedupe": {"key": "${ $input.id }"}}),
    ],
)
def test_expressions_outside_of_a_flow_know_no_variables(place, keys):
    assert fault(**keys) == (place, "EXPRESSION_INVALID")


def test_how_often_events_are_expected_has_bounds():
    assert webhook(expect={"every": "PT1H"}).expect.every == 3600
    assert webhook(expect={"every": {"days": 28}}).expect.every == 28 * 24 * 3600
    for wrong in ("PT0S", "PT0.5S", "P29D"):
        assert fault(expect={"every": wrong})[0] == "expect.every"
    assert fault(expect={"every": 60})[0] == "expect.every"
    assert fault(expect={})[0] == "expect.every"
    assert fault(expect={"every": "PT1H", "grace": "PT1M"})[0] == "expect.grace"
