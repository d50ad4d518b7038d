"""What happens to a request that is let in."""

from __future__ import annotations

import asyncio

from flowhook import ids


async def test_a_signed_request_is_stored_and_answered_with_its_id(edge, sign, hmac_auth):
    edge.router.put_flow("orders", auth=hmac_auth)
    body = b'{"order": 7}'

    answer = await edge.post("/hook/orders", body, sign(body))

    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    (event,) = edge.events()
    assert answer.json() == {"id": event.id}
    assert event.body == body
    assert event.flow_id == "orders"
    assert (event.principal.scheme, event.principal.secret) == ("hmac", "key")
    assert ids.slot_of_event(event.id) == ids.slot_of("orders")


async def test_a_request_to_a_flow_without_auth_is_stored_without_a_principal(edge):
    edge.router.put_flow("open")

    answer = await edge.post("/hook/open")

    assert answer.status == 202
    assert not edge.events()[0].HasField("principal")


async def test_many_requests_at_once_are_sent_in_batches_and_each_gets_its_own_answer(edge):
    edge.router.put_flow("open")
    await edge.post("/hook/open")
    edge.router.gate.clear()
    edge.router.batches.clear()
    posts = [asyncio.create_task(edge.post("/hook/open", b"%d" % number)) for number in range(40)]
    while edge.router.batches and sum(edge.router.batches) < 2:
        await asyncio.sleep(0)
    edge.router.gate.set()

    answers = await asyncio.gather(*posts)

    by_id = {event.id: event.body for event in edge.events()}
    assert [by_id[answer.json()["id"]] for answer in answers] == [b"%d" % number for number in range(40)]
    assert len(edge.router.batches) < 40
