"""What happens to tasks of one flow is told to another, each once, whatever is killed meanwhile."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import orjson
import pytest
from support.systems import document, kill, until

from flowhook.errors import UnavailableError
from flowhook.events.lifecycle import CorrelationEventType, TaskEventType, WorkflowEventType

pytestmark = pytest.mark.e2e

CALL = "{call: http, with: {method: get, endpoint: '%s'}}"
NO_RETRY = "metadata: {retry: {limit: {attempt: {count: 0}}}}"


def alerts(name, flow, *types):
    filters = "".join(f"\n    - {{with: {{type: {type_}, source: /flows/{flow}}}}}" for type_ in types)
    return document(
        name, schedule=f"\n  read: envelope\n  on:\n    any:{filters}", do="- keep: {set: {told: '${ . }'}}"
    )


async def reported(system, flow):
    """Return the events that a flow was told by now, the earliest first."""
    executions = reversed(await system.executions(flow))
    bodies = [(await system.client.executions.get(item.id)).event.body for item in executions]
    events = [event for body in bodies for event in orjson.loads(body)]
    return sorted(events, key=lambda event: event["time"])


def rows(events):
    return Counter((event["type"].split(".")[-2], event["data"].get("task", "").rpartition("/")[2]) for event in events)


async def test_a_flow_receives_each_task_of_another_once_although_runner_and_router_are_killed(restarted):
    url = restarted.outside.url
    do = f"""
- steps:
    for: {{in: '[range(6)]'}}
    do:
      - ask: {CALL % f"{url}/ask"}
      - rest: {{wait: {{milliseconds: 400}}}}
- last: {{call: http, with: {{method: get, endpoint: '{url}/away'}}, {NO_RETRY}}}"""
    await restarted.apply(
        document("watched", do=do.strip()),
        alerts("watch", "watched", TaskEventType.COMPLETED, TaskEventType.FAULTED, TaskEventType.STARTED),
    )
    execution_id = (await restarted.send("watched", {})).id

    async def asks(times):
        with suppress(UnavailableError):
            return rows(await reported(restarted, "watch"))["started", "ask"] >= times
        return False

    for times, process in enumerate(["runner-1", "router-1", "runner-1"], 1):
        await until(lambda times=times: asks(times), "a call is told to have begun")
        await kill(restarted.cluster, process)
    error = await restarted.faulted(execution_id)
    assert error.instance == "/do/1/last"
    expected = Counter(
        {
            ("started", "steps"): 1,
            ("started", "ask"): 6,
            ("completed", "ask"): 6,
            ("started", "rest"): 6,
            ("completed", "rest"): 6,
            ("completed", "steps"): 1,
            ("started", "last"): 1,
            ("faulted", "last"): 1,
        }
    )

    async def all_is_told():
        return sum(rows(await reported(restarted, "watch")).values()) >= expected.total()

    await until(all_is_told, "everything is told")
    events = await reported(restarted, "watch")
    assert rows(events) == expected
    assert len({event["id"] for event in events}) == len(events)
    assert {event["subject"] for event in events} == {execution_id}
    assert events[-1]["data"]["error"]["status"] == 503


async def test_an_execution_waits_for_the_fault_of_a_task_in_another(restarted):
    listen = f"{{listen: {{to: {{one: {{with: {{type: {TaskEventType.FAULTED}, source: /flows/failing}}}}}}}}}}"
    await restarted.apply(
        document(
            "failing",
            do=f"- last: {{call: http, with: {{method: get, endpoint: '{restarted.outside.url}/away'}}, {NO_RETRY}}}",
        ),
        document("waiting", do=f"- hear: {listen}\n- show: {{set: {{task: '${{ .[0].task }}'}}}}"),
    )
    waiting = (await restarted.send("waiting", {})).id

    async def waits():
        return (await restarted.client.executions.get(waiting)).execution.status == "waiting"

    await until(waits, "it listens")
    await restarted.send("failing", {})
    assert await restarted.completed(waiting) == {"task": "/do/0/last"}


async def test_a_life_with_a_correlation_is_reported_in_order(restarted):
    listen = "{listen: {to: {one: {with: {type: paid}, correlate: {order: {from: .data.order}}}}}}"
    await restarted.apply(
        document("correlating", do=f"- hear: {listen}"),
        document("paying", do="- pay: {emit: {event: {with: {type: paid, source: /pay, data: {order: 7}}}}}"),
        alerts(
            "chronicle", "correlating", WorkflowEventType.STARTED, WorkflowEventType.COMPLETED, *CorrelationEventType
        ),
    )
    correlating = (await restarted.send("correlating", {})).id

    async def received(count):
        return len(await restarted.executions("chronicle")) >= count

    await until(lambda: received(2), "it listens, and that is told")
    await restarted.send("paying", {})
    await restarted.completed(correlating)
    await until(lambda: received(4), "everything is told")
    events = await reported(restarted, "chronicle")
    assert [event["type"] for event in events] == [
        WorkflowEventType.STARTED,
        CorrelationEventType.STARTED,
        CorrelationEventType.COMPLETED,
        WorkflowEventType.COMPLETED,
    ]
    assert events[2]["data"]["correlationKeys"] == {"order": 7}
