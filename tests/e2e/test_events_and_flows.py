"""Flows that tell one another of events, run one another, and are run again, with the whole cluster."""

from __future__ import annotations

import orjson
import pytest
import pytest_asyncio
from support.systems import document, until

from flowhook.events.lifecycle import WorkflowEventType
from flowhook.model import Status

pytestmark = pytest.mark.e2e

PRICE = "{namespace: default, name: price, version: 1.0.0, input: {n: '${ .body.n }'}}"
DELIVERED = "{with: {type: delivered}, correlate: {order: {from: .data.order, expect: '${ .body.order }'}}}"
WATCHED = "{with: {type: '${ $input.body.type }', source: /flows/price}}"
HOLIDAYS = (
    "- note:\n"
    "    listen: {to: {any: [{with: {type: visited}}], until: {one: {with: {type: home}}}}}\n"
    "    foreach:\n"
    "      item: visit\n"
    "      do: [{look: {call: http, with: {method: post, endpoint: 'URL/look', body: '${ $visit }'}}}]\n"
    "      output: {as: '${ $visit.place }'}"
)
RACE = (
    "- race:\n"
    "    fork:\n"
    "      compete: true\n"
    "      branches:\n"
    "        - told: {listen: {to: {one: {with: {type: stop}}}}}\n"
    "        - busy:\n"
    "            for: {in: '[range(1000)]'}\n"
    "            do:\n"
    "              - poll: {call: http, with: {method: get, endpoint: 'URL/poll'}}\n"
    "              - rest: {wait: {milliseconds: 20}}"
)


def emitting(kind, data="${ .body }"):
    return f"- tell: {{emit: {{event: {{with: {{type: '{kind}', data: '{data}'}}}}}}}}"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(system):
    url = system.outside.url
    await system.apply(
        document("price", do="- check: {set: {price: '${ if .n < 0 then error(\"negative\") else .n * 2 end }'}}"),
        document("buys", do=f"- ask: {{run: {{workflow: {PRICE}}}}}"),
        document("starts", do=f"- ask: {{run: {{workflow: {PRICE}, await: false}}}}\n- keep: {{set: {{on: 1}}}}"),
        document("delivers", do=emitting("delivered")),
        document("orders", do=f"- wait: {{listen: {{to: {{one: {DELIVERED}}}}}}}"),
        document("travels", do=emitting("${ .body.kind }")),
        document("holidays", do=HOLIDAYS.replace("URL", url)),
        document("watches", do=f"- wait: {{listen: {{to: {{one: {WATCHED}}}}}}}"),
        document("leaves", do="- wait: {listen: {to: {one: {with: {type: '(left|gone)[.]v[0-9]+'}}}}}"),
        document("stops", do=emitting("stop")),
        document("races", do=RACE.replace("URL", url)),
    )


async def waiting(system, flow, body=None):
    """Start an execution and return its ID once it waits."""
    execution_id = (await system.send(flow, body or {})).id

    async def waits():
        return (await system.client.executions.get(execution_id)).execution.status is Status.WAITING

    await until(waits, "the execution waits")
    return execution_id


async def test_a_flow_runs_another_and_has_its_output(system):
    assert await system.completed((await system.send("buys", {"n": 4})).id) == {"price": 8}
    (child,) = await system.executions("price")
    assert child.status is Status.COMPLETED


async def test_the_error_of_the_other_flow_is_that_of_the_task(system):
    execution_id = (await system.send("buys", {"n": -1})).id
    error = await system.faulted(execution_id)
    assert (error.type.rpartition("/")[2], error.instance, error.detail) == ("expression", "/do/0/ask", "negative")
    children = len(await system.executions("price", statuses=[Status.FAULTED]))
    result = await system.flowhook("executions", "replay", execution_id, "--start", "failed_task")
    assert result.code == 0, result
    await until(lambda: _more(system, children), "the other flow is run again")


async def _more(system, children):
    return len(await system.executions("price", statuses=[Status.FAULTED])) > children


async def test_a_flow_that_is_not_waited_for_goes_on_by_itself(system):
    assert await system.completed((await system.send("starts", {"n": 5})).id) == {"on": 1}


async def test_an_event_goes_to_the_execution_that_it_is_about(system):
    first, second = [await waiting(system, "orders", {"order": order}) for order in ("A-1", "A-2")]
    event = await system.completed((await system.send("delivers", {"order": "A-2", "by": "bike"})).id)
    assert (event["type"], event["source"]) == ("delivered", "/flows/delivers")
    assert await system.completed(second) == [{"order": "A-2", "by": "bike"}]
    assert (await system.client.executions.get(first)).execution.status is Status.WAITING
    await system.send("delivers", {"order": "A-1"})
    assert await system.completed(first) == [{"order": "A-1"}]


async def test_a_type_that_an_expression_yields_may_be_that_of_events_about_executions(system):
    watching = await waiting(system, "watches", {"type": WorkflowEventType.FAULTED})
    await system.faulted((await system.send("buys", {"n": -2})).id)
    (reported,) = await system.completed(watching)
    assert (reported["definition"]["name"], reported["error"]["detail"]) == ("price", "negative")


async def test_a_type_that_is_a_regular_expression_takes_what_it_matches(system):
    leaving = await waiting(system, "leaves")
    for kind in ("left", "unleft.v1", "gone.v12"):
        await system.completed((await system.send("travels", {"kind": kind})).id)
    assert [each["kind"] for each in await system.completed(leaving)] == ["gone.v12"]


async def test_events_are_processed_one_by_one_in_the_order_in_which_they_arrived(system):
    execution_id = await waiting(system, "holidays")
    places = [f"place {number}" for number in range(30)]
    for place in places:
        await system.completed((await system.send("travels", {"kind": "visited", "place": place})).id)
    await system.completed((await system.send("travels", {"kind": "home"})).id)
    assert await system.completed(execution_id) == places
    looks = [request for request in system.received("/look") if execution_id in request.key]
    assert [orjson.loads(request.body)["place"] for request in looks] == places


async def test_an_event_reaches_an_execution_that_is_busy(system):
    execution_id = (await system.send("races", {})).id

    def keys_of_polls():
        return [each.key for each in system.received("/poll") if execution_id in each.key]

    await until(lambda: len(keys_of_polls()) > 5, "it is busy")
    await system.send("stops", {"now": True})
    assert await system.completed(execution_id) == [{"now": True}]
    keys = keys_of_polls()
    assert len(set(keys)) == len(keys)
