"""The stream breaks, the router goes, the runner drains: nothing is lost and nothing is done twice."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web
from support.attach_messages import entry_from_proto
from support.counting import CountingService, call
from support.patience import PATIENCE, turns

from flowhook.model import JournalEntry
from flowhook.v1 import runner_service_pb2
from runner.worker.execution_driver import ACTIVE, ACTIVE_AT_ONCE


@pytest.fixture
async def outside(http_server):
    service = CountingService()
    service.base = await http_server(service.handle)
    yield service
    service.release.set()


async def test_a_result_is_journaled_before_the_next_effect_starts(router, served, outside):
    router.define("two", [{"first": call(outside.base, "/1")}, {"second": call(outside.base, "/2")}])
    router.acknowledges = False
    stream = await router.attached()
    assignment = router.assignment("two")
    router.assign(stream, assignment)
    (checkpoint,) = await router.until(lambda: stream.checkpoints[:1])
    assert (checkpoint.index, checkpoint.entry.key) == (0, "/do/0/first#0")
    assert orjson.loads(checkpoint.entry.output) == {"n": 1}
    assert outside.paths == ["/1"]
    router.acknowledges = True
    router.acknowledge(stream, [checkpoint])
    outcome = await router.outcome(assignment.lease)
    assert orjson.loads(outcome.completed.output) == {"n": 2}
    assert outside.paths == ["/1", "/2"]
    assert len(set(outside.keys)) == 2
    assert [item.index for item in stream.checkpoints] == [0, 1]


async def test_a_journaled_effect_is_not_performed_again(router, served, outside):
    router.define("two", [{"first": call(outside.base, "/1")}, {"second": call(outside.base, "/2")}])
    stream = await router.attached()
    outcome = await router.run(stream, "two", journal=[JournalEntry("/do/0/first#0", b'{"n":9}')], attempt=2)
    assert outcome.WhichOneof("result") == "completed"
    assert outside.paths == ["/2"]
    assert [item.index for item in stream.checkpoints] == [1]


async def test_a_journal_that_does_not_fit_faults_the_execution(router, served, outside):
    router.define("one", [{"first": call(outside.base, "/1")}])
    stream = await router.attached()
    outcome = await router.run(stream, "one", journal=[JournalEntry("/do/7/other#0", b"{}")])
    assert "diverged" in outcome.faulted.detail
    assert outside.paths == []


async def test_a_stream_that_breaks_keeps_its_leases_and_resends_what_is_not_settled(router, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow")}, {"done": {"set": {"done": True}}}])
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    router.settles = False
    stream = await router.attached()
    slow, quick = router.assignment("slow"), router.assignment("quick")
    router.assign(stream, slow, quick)
    await outside.until(1)
    await router.outcome(quick.lease)
    stream.close()
    second = await router.attached(2)
    assert set(second.hello.held_leases) == {slow.lease, quick.lease}
    await router.until(lambda: [item for item in second.outcomes if item.lease == quick.lease])
    outside.release.set()
    await router.until(lambda: [item for item in second.outcomes if item.lease == slow.lease])
    assert outside.paths == ["/slow"]


async def test_a_lease_that_the_router_does_not_keep_is_dropped(router, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow")}, {"again": call(outside.base, "/never")}])
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    router.kept = set()
    stream = await router.attached()
    slow = router.assignment("slow")
    router.assign(stream, slow)
    await outside.until(1)
    stream.close()
    second = await router.attached(2)
    outside.release.set()
    assert (await router.run(second, "quick")).WhichOneof("result") == "completed"
    assert outside.paths == ["/slow"]
    assert not [item for item in second.outcomes if item.lease == slow.lease]


async def test_a_router_that_restarts_is_found_again_within_two_seconds(router, served):
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    await router.attached()
    await router.stop()
    await router.serve(router.port)
    async with turns() as passed:
        stream = await router.attached(2)
    assert passed.seconds < 2
    assert (await router.run(stream, "quick")).WhichOneof("result") == "completed"


async def test_leases_are_renewed_at_a_third_of_their_time(router, served, outside):
    router.lease_seconds = 1.5
    router.define("slow", [{"ask": call(outside.base, "/slow")}])
    stream = await router.attached()
    router.assign(stream, router.assignment("slow"))
    async with turns() as passed:
        await router.until(lambda: stream.renewals >= 3)
    assert passed.seconds < 2 * router.lease_seconds


async def test_credit_is_given_back_as_work_ends_and_never_beyond_the_capacity(router, served, outside):
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    stream = await router.attached()
    await router.until(lambda: stream.credit == 32)
    assignments = [router.assignment("quick") for _ in range(32)]
    router.assign(stream, *assignments)
    await router.until(lambda: len(stream.outcomes) == 32 and stream.credit == 64)


@pytest.mark.parametrize("settings", [{"concurrency": 256}], indirect=True)
async def test_executions_that_end_in_their_first_turn_make_room_for_more_at_a_time(router, served, outside):
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    router.define("slow", [{"ask": call(outside.base, "/slow")}])
    stream = await router.attached()
    await router.until(lambda: stream.credit == ACTIVE)
    while stream.credit - len(stream.outcomes) < ACTIVE + ACTIVE_AT_ONCE * 0.9:
        router.assign(stream, *[router.assignment("quick") for _ in range(ACTIVE)])
        ended = len(stream.outcomes) + ACTIVE
        await router.until(lambda: len(stream.outcomes) == ended and stream.credit >= ended + ACTIVE)  # noqa: B023


async def test_all_that_gathered_is_one_message(router, served, outside):
    router.define("asks", [{"ask": call(outside.base, "/")}])
    stream = await router.attached()
    rounds = 0
    async with asyncio.timeout(PATIENCE):  # what gathers in one turn of the loop is up to the machine
        while not any({"checkpoints", "outcomes"} <= set(kinds) for kinds in router.bundled):
            assignments = [router.assignment("asks") for _ in range(20)]
            router.assign(stream, *assignments)
            for assignment in assignments:
                assert (await router.outcome(assignment.lease)).WhichOneof("result") == "completed"
            rounds += 1
    assert len(stream.checkpoints) == 20 * rounds


async def test_what_comes_in_a_bundle_is_taken_in_one_after_another(router, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow")}])
    stream = await router.attached()
    given, taken_back = router.assignment("slow"), router.assignment("slow")
    stream.responses.put_nowait(
        runner_service_pb2.AttachResponse(
            bundle=runner_service_pb2.ResponseBundle(
                responses=[
                    runner_service_pb2.AttachResponse(
                        assignments=runner_service_pb2.AssignmentBatch(assignments=[taken_back, given])
                    ),
                    runner_service_pb2.AttachResponse(
                        revocation=runner_service_pb2.Revocation(leases=[taken_back.lease], reason="LEASE_LOST")
                    ),
                ]
            )
        )
    )
    await outside.until(1)
    outside.release.set()
    assert (await router.outcome(given.lease)).WhichOneof("result") == "completed"
    assert len(outside.keys) == 1


@pytest.mark.parametrize("settings", [{"concurrency": ACTIVE + 8}], indirect=True)
async def test_work_that_waits_for_others_gets_all_the_room_there_may_be(router, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow")}])
    stream = await router.attached()
    assigned = 0
    while assigned < ACTIVE + 8:
        await router.until(lambda: stream.credit > assigned)  # noqa: B023 - called before it changes
        router.assign(stream, *[router.assignment("slow") for _ in range(stream.credit - assigned)])
        assigned = stream.credit
    await outside.until(ACTIVE + 8)
    assert (assigned, stream.outcomes) == (ACTIVE + 8, [])


@pytest.mark.parametrize("settings", [{"drain_seconds": 2.0, "http_timeout": 3600.0}], indirect=True)
async def test_a_drain_finishes_what_is_quick_and_gives_back_the_rest_uncharged(router, settings, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow/forever")}])
    router.define("soon", [{"ask": call(outside.base, "/soon")}])
    stream = await router.attached()
    slow, soon = router.assignment("slow"), router.assignment("soon")
    router.assign(stream, slow, soon)
    await outside.until(2)
    credit = stream.credit
    await served.stop()
    assert (await router.outcome(soon.lease)).WhichOneof("result") == "completed"
    released = (await router.outcome(slow.lease)).released
    assert (released.reason, released.charged) == ("DRAINING", False)
    assert stream.credit <= credit + 1


STEPS = 20


@pytest.mark.parametrize("settings", [{"drain_seconds": 5.0}], indirect=True)
@pytest.mark.parametrize("branches", [1, 3])
async def test_a_drain_waits_for_the_calls_that_are_under_way_and_begins_no_other(
    router, served, following, http_server, branches
):
    keys, under_way, answer = [], asyncio.Semaphore(0), asyncio.Event()

    async def handle(request):
        keys.append(request.headers["Idempotency-Key"])
        if request.path == "/slow" and not answer.is_set():
            under_way.release()
            await answer.wait()
        return web.json_response({"n": len(keys)})

    base = await http_server(handle)
    steps = [{"quick": call(base, "/quick")}, {"slow": call(base, "/slow")}]
    loop = {"for": {"in": f"${{ [range({STEPS})] }}"}, "do": [{"each": {"do": steps}}]}
    task = loop if branches == 1 else {"fork": {"branches": [{f"b{n}": loop} for n in range(branches)]}}
    router.define("long", [{"all": task}])
    router.define("trivial", [{"run": {"set": {"n": 1}}}])
    stream = await router.attached()
    assignment = router.assignment("long")
    router.assign(stream, assignment)
    async with asyncio.timeout(PATIENCE):
        for _ in range(branches):
            await under_way.acquire()
    stopping = asyncio.create_task(served.stop())
    for _ in range(1000):  # until the drain has begun there
        if (await router.run(stream, "trivial")).HasField("released"):
            break
    answer.set()
    await stopping
    released = (await router.outcome(assignment.lease)).released
    assert (released.reason, released.charged) == ("DRAINING", False)
    assert len(keys) == 2 * branches
    entries = [each.entry for each in stream.checkpoints if each.HasField("entry")]
    assert {key.partition(":")[2] for key in keys} <= {entry.key for entry in entries}

    following()
    journal = [entry_from_proto(entry) for entry in entries]
    rest = router.assignment("long", journal=journal, attempt=2)
    router.assign(await router.attached(2), rest)
    assert (await router.outcome(rest.lease)).HasField("completed")
    made = [key.partition(":")[2] for key in keys]
    assert len(made) == len(set(made)) == 2 * STEPS * branches


async def test_a_revoked_execution_stops_and_reports_nothing(router, served, outside):
    router.define("slow", [{"ask": call(outside.base, "/slow")}, {"again": call(outside.base, "/never")}])
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    stream = await router.attached()
    slow = router.assignment("slow")
    router.assign(stream, slow)
    await outside.until(1)
    stream.responses.put_nowait(
        runner_service_pb2.AttachResponse(
            revocation=runner_service_pb2.Revocation(leases=[slow.lease], reason="EXECUTION_CANCELLED")
        )
    )
    await router.run(stream, "quick")
    outside.release.set()
    await router.run(stream, "quick")
    assert outside.paths == ["/slow"]
    assert not [item for item in stream.outcomes if item.lease == slow.lease]


@pytest.mark.parametrize("settings", [{"http_timeout": 3600.0}], indirect=True)
async def test_a_revoked_execution_closes_its_connection(router, served):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def listen(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        router.define("slow", [{"ask": call(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "/")}])
        stream = await router.attached()
        router.assign(stream, slow := router.assignment("slow"))
        await arrived.wait()
        revocation = runner_service_pb2.Revocation(leases=[slow.lease], reason="EXECUTION_CANCELLED")
        stream.responses.put_nowait(runner_service_pb2.AttachResponse(revocation=revocation))
        async with asyncio.timeout(PATIENCE):
            await gone.wait()


async def test_an_unknown_flow_faults_as_a_configuration_error(router, served):
    stream = await router.attached()
    outcome = await router.run(stream, "nowhere")
    assert outcome.faulted.type.endswith("/configuration")


async def test_secrets_reach_expressions_and_a_missing_one_is_an_authorization_error(router, served):
    use = {"secrets": ["bank"]}
    router.define("secret", [{"use": {"set": {"user": "${ $secrets.bank.user }"}}}], use=use)
    stream = await router.attached()
    outcome = await router.run(stream, "secret")
    assert outcome.faulted.type.endswith("/authorization")
    assert (outcome.faulted.status, outcome.faulted.instance) == (403, "/use/secrets")
    router.secrets["bank"] = b'{"user": "u"}'
    outcome = await router.run(stream, "secret")
    assert orjson.loads(outcome.completed.output) == {"user": "u"}


async def test_an_expression_that_fails_shows_no_secret(router, served):
    router.secrets["token"] = b"sup3rs3cret"
    use = {"secrets": ["token"]}
    router.define("leak", [{"use": {"set": {"x": "${ $secrets.token | tonumber }"}}}], use=use)
    router.define("leak2", [{"use": {"set": {"x": "${ error($secrets.token) }"}}}], use=use)
    stream = await router.attached()
    for flow in ("leak", "leak2"):
        outcome = await router.run(stream, flow)
        assert outcome.faulted.type.endswith("/expression")
        assert "sup3r" not in outcome.faulted.detail


async def test_expressions_see_no_environment(router, served, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_TOKEN", "visible")
    router.define("env", [{"look": {"set": {"x": "${ env | keys }"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "env")
    assert orjson.loads(outcome.completed.output) == {"x": []}


async def test_the_child_reports_itself_with_its_metrics(router, served):
    router.define("quick", [{"done": {"set": {"quick": True}}}])
    stream = await router.attached()
    await router.run(stream, "quick")
    report = await router.until(
        lambda: next(
            (item for item in router.reports if b'flowhook_attempts_total{outcome="completed"} 1.0' in item.metrics),
            None,
        )
    )
    assert (report.name, report.role, report.ready) == ("runner-1", "runner", True)
