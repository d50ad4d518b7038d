"""Webhooks in the middle of a flow, with the whole cluster."""

from __future__ import annotations

from io import BytesIO

import orjson
import pytest
import pytest_asyncio
from support.systems import document, until

from flowhook.model import Status

pytestmark = pytest.mark.e2e

OFFICE = "{api_key: {header: X-Api-Key, secret: office-key}}"
WEBHOOK = f"{{auth: none, callbacks: {{approval: {{auth: {OFFICE}}}, paid: {{auth: none}}}}}}"
KEY = {"X-Api-Key": "s3cr3t"}

LISTEN = "- decide: {listen: {to: {one: {with: {type: approval}}}}}"
CORRELATED = (
    "- remember: {set: {order: '${ .body.order }'}, export: {as: '${ . }'}}\n"
    "- decide: {listen: {to: {one: {with: {type: approval}, "
    "correlate: {order: {from: '${ .data.body.order }', expect: '${ $context.order }'}}}}}}"
)
BRIEFLY = (
    "- decide:\n    try:\n"
    "      - wait: {listen: {to: {one: {with: {type: approval}}}}, timeout: {after: {milliseconds: 300}}}\n"
    "    catch: {errors: {with: {status: 408}}, do: [{giveUp: {set: {decided: nobody}}}]}"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(system):
    ask = (
        f"ask: {{call: http, with: {{method: post, endpoint: '{system.outside.url}/ask', "
        "body: {url: '${ $runtime.metadata.callbacks.approval }'}}}"
    )
    once = f"- {ask}\n{LISTEN}"
    await system.secrets(office_key="s3cr3t")
    await system.apply(
        document("orders", webhook=WEBHOOK, do=CORRELATED),
        document("late", webhook=WEBHOOK, do=f"- pause: {{wait: {{milliseconds: 700}}}}\n{LISTEN}"),
        document("asks", webhook=WEBHOOK, do=once),
        document("asks-twice", webhook=WEBHOOK, do=f"{once}\n{once.replace('- ', '- again ')}"),
        document("brief", webhook=WEBHOOK, do=BRIEFLY),
        document("sleepy", webhook=WEBHOOK, do=once),
    )


def refusal(answer):
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status, answer.json["reason"]


async def waiting(system, flow, body=None):
    """Start an execution and return its ID once it waits."""
    execution_id = (await system.send(flow, body or {})).id

    async def waits():
        return (await system.client.executions.get(execution_id)).execution.status is Status.WAITING

    await until(waits, "the execution waits")
    return execution_id


async def requested(system, execution_id, times=1):
    """Return the path of the one-time URL that an execution told the outside world."""

    def requests():
        return [request for request in system.received("/ask") if execution_id in request.key]

    await until(lambda: len(requests()) >= times, "the execution has told its URL")
    url = orjson.loads(requests()[times - 1].body)["url"]
    assert url.startswith(system.cluster.http + "/hook/")
    return url.removeprefix(system.cluster.http)


async def test_a_callback_goes_to_the_execution_that_it_is_about(system):
    first, second = [await waiting(system, "orders", {"order": order}) for order in ("A-1", "A-2")]
    answer = await system.send("orders/approval", {"order": "A-2", "yes": True}, headers=KEY, params={"by": "ann"})

    assert answer.status == 202
    (callback,) = await system.completed(second)
    assert callback["id"] == answer.id
    assert (callback["path"], callback["query"], callback["method"]) == ("/hook/orders/approval", {"by": "ann"}, "POST")
    assert callback["body"] == {"order": "A-2", "yes": True}
    assert "x-api-key" not in callback["headers"]
    assert (await system.client.executions.get(first)).execution.status is Status.WAITING
    await system.send("orders/approval", {"order": "A-1"}, headers=KEY)
    assert (await system.completed(first))[0]["body"] == {"order": "A-1"}


async def test_a_callback_without_its_credentials_is_refused_and_changes_nothing(system):
    execution_id = await waiting(system, "orders", {"order": "A-3"})
    assert refusal(await system.send("orders/approval", {"order": "A-3"})) == (401, "UNAUTHENTICATED")
    assert refusal(await system.send("orders/other", {"order": "A-3"})) == (404, "FLOW_NOT_FOUND")
    assert (await system.client.executions.get(execution_id)).execution.status is Status.WAITING


async def test_one_that_comes_before_the_flow_listens_is_buffered_for_it(system):
    execution_id = (await system.send("late", {})).id
    answer = await system.send("late/approval", {"early": True}, headers=KEY)
    (callback,) = await system.completed(execution_id)
    assert (callback["id"], callback["body"]) == (answer.id, {"early": True})


async def test_a_one_time_url_is_good_once_and_its_token_is_retained_nowhere(system):
    execution_id = (await system.send("asks", {})).id
    place = await requested(system, execution_id)
    token = place.rpartition("/")[2]
    assert (await system.request("HEAD", place)).status == 200
    answer = await system.request("POST", place, json={"yes": True}, headers={"Referer": system.cluster.http + place})

    assert answer.status == 202
    (callback,) = await system.completed(execution_id)
    assert (callback["id"], callback["path"], callback["body"]) == (answer.id, "/hook/asks/approval", {"yes": True})
    assert token not in str(callback)
    assert token not in "".join(system.cluster.output)
    assert refusal(await system.request("POST", place, json={})) == (410, "CALLBACK_GONE")


async def test_after_its_use_the_flow_has_a_new_one_time_url(system):
    execution_id = (await system.send("asks-twice", {})).id
    first = await requested(system, execution_id)
    assert (await system.request("POST", first, json={"n": 1})).status == 202
    second = await requested(system, execution_id, times=2)
    assert first != second
    assert refusal(await system.request("POST", first, json={"n": 1})) == (410, "CALLBACK_GONE")
    assert (await system.request("POST", second, json={"n": 2})).status == 202
    assert [each["body"] for each in await system.completed(execution_id)] == [{"n": 2}]


async def test_a_one_time_url_that_was_made_up_is_none(system):
    execution_id = (await system.send("asks", {})).id
    place = await requested(system, execution_id)
    changed = place[:-2] + ("A" if place[-2] != "A" else "B") + place[-1]
    elsewhere = [place.replace("/approval/", "/paid/"), place.replace("/hook/asks/", "/hook/orders/")]
    for other in (changed, place[:-1], "/hook/asks/approval/guess", *elsewhere):
        assert refusal(await system.request("POST", other, json={})) == (404, "CALLBACK_NOT_FOUND")
    assert (await system.request("POST", place, json={})).status == 202
    await system.completed(execution_id)


async def test_the_one_time_url_of_an_execution_that_ended_is_gone(system):
    execution_id = (await system.send("asks", {})).id
    place = await requested(system, execution_id)
    await system.client.executions.cancel(execution_id)
    assert refusal(await system.request("POST", place, json={})) == (410, "CALLBACK_GONE")


async def test_a_flow_that_has_waited_long_enough_goes_on_without(system):
    execution_id = (await system.send("brief", {})).id
    assert await system.completed(execution_id) == {"decided": "nobody"}


async def test_a_paused_flow_takes_callbacks_and_goes_on_with_them_when_it_is_resumed(system):
    execution_id = (await system.send("sleepy", {})).id
    place = await requested(system, execution_id)
    await system.client.flows.pause("sleepy")
    assert (await system.request("POST", place, json={"n": 1})).status == 202
    # another flow's execution that began later and ended shows that the queue moved on
    await system.completed((await system.send("brief", {})).id)
    assert not (await system.client.executions.get(execution_id)).execution.status.ended
    await system.client.flows.resume("sleepy")
    assert [each["body"] for each in await system.completed(execution_id)] == [{"n": 1}]


async def test_what_is_too_large_for_a_flow_to_see_is_413(system):
    await system.apply(document("large", webhook="{auth: none, callbacks: {paid: {auth: none, max_body: 1MiB}}}"))
    answer = await system.request("POST", "/hook/large/paid", data=b"\xff" * 900_000)
    assert refusal(answer) == (413, "CALLBACK_TOO_LARGE")
    answer = await system.request("POST", "/hook/large/paid", data=BytesIO(b"x" * 1_100_000))
    assert refusal(answer) == (413, "BODY_TOO_LARGE")
