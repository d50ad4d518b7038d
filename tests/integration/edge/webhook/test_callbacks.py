"""Webhooks in the middle of a flow: those that its callbacks let in, and those of one-time URLs."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import seen_within

from flowhook.events import ids

KEY = [("Content-Type", "application/json"), ("X-Api-Key", "a secret of sixteen")]
JSON = [("Content-Type", "application/json")]
TOKEN = "01m8746v7wemm95kbphkypt3c6.0.4yJrC4k0X6p0n3cZr3l9m2w1b8f5h7d6s9a2q4e8t0u"
ONE_TIME = f"/hook/orders/approval/{TOKEN}"


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json()["reason"]


@pytest.fixture
def orders(router, hmac_auth):
    """A flow with a callback; what else it has is up to the test."""

    def put(*, callback=None, **webhook):
        approval = {"auth": {"api_key": {"header": "X-Api-Key", "secret": "key"}}, **(callback or {})}
        router.put_flow("orders", auth=hmac_auth, callbacks={"approval": approval}, **webhook)

    put()
    return put


async def test_a_callback_is_let_in_by_its_own_credentials_and_stored_for_who_listens(edge, orders):
    answer = await edge.post("/hook/orders/approval?by=ann", b'{"order": 7}', KEY)

    assert answer.status == 202
    (event,) = edge.events()
    assert answer.json() == {"id": event.id}
    assert ids.slot_of_event(event.id) == ids.slot_of("orders")
    assert (event.flow_id, event.callback, event.callback_token) == ("orders", "approval", "")
    assert (event.path, event.query, event.body) == ("/hook/orders/approval", "by=ann", b'{"order": 7}')
    assert (event.principal.scheme, event.principal.secret) == ("api_key", "key")
    assert "x-api-key" not in {header.name for header in event.headers}


async def test_the_credentials_of_the_flow_are_none_of_its_callbacks_nor_the_other_way_round(edge, orders, sign):
    assert refusal(await edge.post("/hook/orders/approval", b"{}", sign(b"{}"))) == (401, "UNAUTHENTICATED")
    assert refusal(await edge.post("/hook/orders", b"{}", KEY)) == (401, "UNAUTHENTICATED")
    assert (await edge.post("/hook/orders", b"{}", sign(b"{}"))).status == 202
    assert [event.callback for event in edge.events()] == [""]


async def test_a_one_time_url_is_all_the_credential_it_takes(edge, orders):
    answer = await edge.post(f"{ONE_TIME}?by=ann", b'{"ok": true}', JSON)

    assert answer.status == 202
    (event,) = edge.events()
    assert answer.json() == {"id": event.id}
    assert (event.flow_id, event.callback, event.callback_token) == ("orders", "approval", TOKEN)
    assert (event.path, event.query, event.body) == ("/hook/orders/approval", "by=ann", b'{"ok": true}')
    assert not event.HasField("principal")


async def test_the_token_is_nowhere_but_where_the_router_looks_for_it(edge, orders, failure, capsys):
    orders(callback={"respond": {"body": {"path": "${ .path }", "headers": "${ .headers }"}}})
    url = f"https://edge.test{ONE_TIME}"
    headers = [
        *KEY,
        ("Referer", url),
        ("X-Original-URL", ONE_TIME),
        ("X-Forwarded-Uri", ONE_TIME),
        ("X-Made-Up-By-A-Proxy", f"<{url}>"),
        ("X-Encoded", "".join(f"%{byte:02x}" for byte in url.encode())),
        ("X-Kept", "1"),
    ]
    answer = await edge.post(ONE_TIME, b"{}", headers)
    edge.router.reject["orders"] = failure("EVENT_ID_INVALID", retryable=False)
    assert (await edge.post(ONE_TIME, b"{}", headers)).status == 500

    assert answer.status == 202
    (event,) = edge.events()
    assert {header.name for header in event.headers} == {"host", "content-type", "content-length", "x-kept"}
    assert event.callback_token == TOKEN
    event.callback_token = ""
    assert TOKEN.encode() not in event.SerializeToString()
    assert TOKEN.encode() not in answer.raw + answer.body
    written = "".join(capsys.readouterr())
    assert "router refused an event" in written
    assert TOKEN not in written


async def test_callbacks_that_take_the_router_long_keep_no_other_event_waiting(edge, router, orders):
    orders()
    router.put_flow("open")
    router.calls_back.clear()
    url, credentials = "/hook/orders/approval", [("X-Api-Key", "a secret of sixteen")]
    slow = [asyncio.create_task(edge.post(url, b"{}", credentials)) for _ in range(4)]
    while not router.batches:
        await asyncio.sleep(0)
    assert (await edge.post("/hook/open")).status == 202
    assert not any(task.done() for task in slow)
    router.calls_back.set()
    assert [answer.status for answer in await asyncio.gather(*slow)] == [202] * 4


@pytest.mark.parametrize("token", ["", "a/b", "a" * 129, "%41", "a b", "é", "a+b", "../x"])
async def test_what_can_be_no_token_is_nothing_the_router_is_asked_about(edge, orders, token):
    sender = await edge.connect()
    target = f"/hook/orders/approval/{token}"
    status = 400 if " " in token else 404
    answer = await sender.request("POST", target, body=b"{}", headers=JSON)
    assert refusal(answer) == (status, "CALLBACK_NOT_FOUND" if status == 404 else "REQUEST_MALFORMED")
    assert edge.router.batches == []


@pytest.mark.parametrize("auth", [{}, {"auth": "one_time_url"}])
@pytest.mark.parametrize("subpaths", [False, True])
async def test_a_callback_without_auth_has_its_one_time_urls_and_no_other(edge, router, hmac_auth, auth, subpaths):
    router.put_flow("orders", auth=hmac_auth, callbacks={"approval": auth}, subpaths=subpaths)
    sender = await edge.connect()
    assert (await sender.request("HEAD", "/hook/orders/approval")).status == 404
    assert refusal(await edge.post("/hook/orders/approval", b"{}", KEY)) == (404, "FLOW_NOT_FOUND")
    assert (await edge.post(ONE_TIME, b"{}", JSON)).status == 202
    assert [event.callback_token for event in edge.events()] == [TOKEN]


async def test_one_that_several_executions_wait_for_is_409(edge, orders, failure):
    edge.router.reject["orders"] = failure("CALLBACK_AMBIGUOUS", retryable=False)
    assert refusal(await edge.post("/hook/orders/approval", b"{}", KEY)) == (409, "CALLBACK_AMBIGUOUS")


@pytest.mark.parametrize("target", ["/hook/orders/other", "/hook/orders/other/token", "/hook/nope/approval"])
async def test_another_name_is_nothing(edge, orders, target):
    assert refusal(await edge.post(target, b"{}", KEY)) == (404, "FLOW_NOT_FOUND")


async def test_names_of_callbacks_come_before_subpaths(edge, orders, sign):
    orders(subpaths=True)
    assert (await edge.post("/hook/orders/approval", b"{}", KEY)).status == 202
    assert (await edge.post(ONE_TIME, b"{}", JSON)).status == 202
    assert (await edge.post("/hook/orders/approvals/7", b"{}", sign(b"{}"))).status == 202
    assert refusal(await edge.post("/hook/orders/approval", b"{}", sign(b"{}")))[0] == 401
    assert [event.callback for event in edge.events()] == ["approval", "approval", ""]


@pytest.mark.parametrize(
    ("target", "status"),
    [("/hook/orders/approval", 200), (ONE_TIME, 200), ("/hook/orders/other", 404), ("/hook/orders/approval/", 404)],
)
async def test_head_reports_whether_there_is_such_a_callback_and_uses_nothing_up(edge, orders, target, status):
    sender = await edge.connect()
    assert (await sender.request("HEAD", target)).status == status
    assert edge.events() == []


@pytest.mark.parametrize("target", ["/hook/orders/approval", ONE_TIME])
class TestBothUrls:
    """A callback's settings hold for both of its URLs, but for `auth` and `dedupe`."""

    async def test_methods(self, edge, orders, target):
        orders(callback={"methods": ["PUT"]})
        answer = await edge.post(target, b"{}", KEY)
        assert refusal(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "HEAD, PUT"
        assert (await edge.post(target, b"{}", KEY, "PUT")).status == 202

    async def test_allow_from(self, edge, orders, target):
        orders(callback={"allow_from": ["192.0.2.0/24"]})
        assert refusal(await edge.post(target, b"{}", KEY)) == (403, "ADDRESS_FORBIDDEN")

    async def test_max_body(self, edge, orders, target):
        orders(callback={"max_body": "4B"})
        assert refusal(await edge.post(target, b"[1,2]", KEY)) == (413, "BODY_TOO_LARGE")
        assert (await edge.post(target, b"[12]", KEY)).status == 202

    async def test_respond(self, edge, orders, target):
        orders(callback={"respond": {"status": 200, "body": {"said": "${ .body.said }", "at": "${ .path }"}}})
        answer = await edge.post(target, b'{"said": "yes"}', KEY)
        assert answer.status == 200
        assert answer.json() == {"said": "yes", "at": "/hook/orders/approval"}

    async def test_a_body_that_is_no_json(self, edge, orders, target):
        assert refusal(await edge.post(target, b"{", KEY)) == (400, "BODY_INVALID")

    @pytest.mark.parametrize(
        "why",
        [
            ("CALLBACK_NOT_FOUND", 404, 0),
            ("CALLBACK_GONE", 410, 0),
            ("CALLBACK_TOO_LARGE", 413, 0),
            ("EVENT_BUFFER_FULL", 429, 60),
            ("RATE_LIMITED", 429, 2),
        ],
    )
    async def test_the_router_says_why_it_takes_none(self, edge, orders, target, why, failure):
        reason, status, retry_after = why
        edge.router.reject["orders"] = failure(reason, retry_after=retry_after, retryable=bool(retry_after))
        sender = await edge.connect()
        answer = await sender.request("POST", target, body=b"{}", headers=KEY)
        assert refusal(answer) == (status, reason)
        assert answer.headers.get("retry-after", "0") == str(retry_after)
        assert (await sender.request("HEAD", target)).status == 200  # the connection lives on


async def test_a_callback_deduplicates_by_its_own_key_and_a_one_time_url_does_not(edge, orders):
    orders(callback={"dedupe": {"key": "${ .body.order }"}})
    first, again = [await edge.post("/hook/orders/approval", b'{"order": "A1"}', KEY) for _ in range(2)]
    assert first.json() == again.json()
    await edge.post(ONE_TIME, b'{"order": "A1"}', JSON)
    assert [event.dedupe_key for event in edge.events()] == ["api_key:A1", ""]


async def test_a_flow_that_answers_by_itself_does_not_answer_its_callbacks(edge, orders):
    orders(respond={"mode": "reply"})
    assert (await edge.post("/hook/orders/approval", b"{}", KEY)).status == 202
    assert edge.router.invoked == []


async def test_the_operator_learns_which_callback_refused(edge, orders, capsys):
    await edge.post("/hook/orders/approval", b"{}", JSON)
    written = "".join(capsys.readouterr())
    assert "request unauthenticated" in written
    assert "approval" in written


async def test_a_revoked_secret_of_a_callback_is_out_of_force_at_once(edge, orders):
    assert (await edge.post("/hook/orders/approval", b"{}", KEY)).status == 202
    edge.router.put_secret("key", b"another secret")

    async def refused():
        return (await edge.post("/hook/orders/approval", b"{}", KEY)).status != 202

    await seen_within(1, refused)
    assert refusal(await edge.post("/hook/orders/approval", b"{}", KEY)) == (401, "UNAUTHENTICATED")


async def test_a_wrong_token_makes_no_edge_forget_the_flow_but_a_callback_that_is_gone_does(edge, orders, failure):
    edge.router.reject["orders"] = failure("CALLBACK_NOT_FOUND", retryable=False)
    for _ in range(2):
        await edge.post(ONE_TIME, b"{}", JSON)
    assert edge.router.lookups == ["orders"]
    for _ in range(2):
        await edge.post("/hook/orders/approval", b"{}", KEY)
    assert edge.router.lookups == ["orders"] * 2
