"""The matrix of replays with a real router and a real runner: input, revision, and where a replay begins."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from support.ends import ended
from support.http_servers import http_server
from support.routers import running_router
from support.served import running_runner

from flowhook.errors import ConflictError, InvalidError, NotFoundError, PermissionDeniedError
from flowhook.model import Status
from flowhook.model.replays import AS_RECORDED, ReplayedTask, ReplayOptions, ReplayOrigin

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING = "evt_01m8746w29ee29nr9fsnpeescq"


class World:
    """What the flows call: it remembers what it received, and fails at paths in `failing`."""

    def __init__(self):
        self.received = []
        self.failing = set()
        self.base = ""

    async def answer(self, request):
        self.received.append((request.path, request.headers["Idempotency-Key"], orjson.loads(await request.read())))
        if request.path in self.failing:
            return web.json_response({"said": "no"}, status=403)
        return web.json_response({"from": request.path, "count": len(self.received)})

    def take(self, prefix):
        """Return what was received at paths with a prefix since the last call."""
        found = [each for each in self.received if each[0].startswith(prefix)]
        self.received = [each for each in self.received if not each[0].startswith(prefix)]
        return found


class Cluster:
    def __init__(self, router, client, world):
        self.router, self.client, self.world = router, client, world

    async def apply(self, name, *tasks, head=""):
        """Apply a flow; a task is its name, at which a call is made, or a name and what it is in YAML."""
        lines = []
        for task in tasks:
            given, body = task if isinstance(task, tuple) else (task, self.call(name, task))
            lines.append(f"  - {given}: {body}\n")
        text = (
            f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n{head}do:\n{''.join(lines)}"
        )
        await self.client.flows.apply([text.encode()])

    def call(self, flow, task, body="${ . }"):
        where = f"{self.world.base}/{flow}/{task}"
        return f'{{call: http, with: {{method: post, endpoint: "{where}", body: {{data: "{body}"}}}}}}'

    async def run(self, flow, body, status=Status.COMPLETED, **more):
        execution_id = await self.client.ingest(flow, body, **more)
        return await self.end(execution_id, status)

    async def end(self, execution_id, status=Status.COMPLETED):
        execution = await ended(self.client, execution_id)
        assert execution.status is status, execution.error
        return execution_id

    async def replay(self, execution_id, options=AS_RECORDED, status=Status.COMPLETED):
        """Replay and wait for the end; returns the details of the replay, and the paths and keys of its calls."""
        before = await self.client.executions.get(execution_id)
        self.world.take(f"/{before.execution.flow_id}/")
        replay = await self.client.executions.replay(execution_id, options)
        await self.end(replay.id, status)
        detail = await self.client.executions.get(replay.id)
        assert detail.execution.replay_of == execution_id
        # the original is what it was, but for the link
        after = await self.client.executions.get(execution_id)
        assert (after.event, after.journal, after.output, after.history) == (
            before.event,
            before.journal,
            before.output,
            before.history,
        )
        return detail, self.world.take(f"/{before.execution.flow_id}/")


def names(received):
    return [path.rpartition("/")[2] for path, _, _ in received]


def scopes(received):
    return {key.partition(":")[0] for _, key, _ in received}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory):
    async with AsyncExitStack() as stack:
        world = World()
        world.base = await stack.enter_async_context(http_server(world.answer))
        router = await stack.enter_async_context(running_router(tmp_path_factory.mktemp("router") / "data"))
        await stack.enter_async_context(running_runner(router, "runner-1"))
        client = await stack.enter_async_context(router.client())
        yield Cluster(router, client, world)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(cluster):
    """A completed and a faulted execution of revision 1 of the flow `shop`, whose latest is revision 2."""
    tasks = ["a", ("mid", "{set: {seen: '${ . }'}}"), "b", "c"]
    await cluster.apply("shop", *tasks)
    completed = await cluster.run("shop", {"n": 1})
    cluster.world.failing.add("/shop/b")
    faulted = await cluster.run("shop", {"n": 2}, Status.FAULTED)
    cluster.world.failing.clear()
    await cluster.apply("shop", *tasks, ("new", "{set: {revision: 2, seen: '${ . }'}}"))
    return {"completed": completed, "faulted": faulted}


EDITED = {"as it was": {}, "edited": {"body": b'{"n": 5}'}}
REVISIONS = {"recorded": {}, "latest": {"latest": True}}


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("edited", EDITED)
async def test_from_the_start_all_tasks_run_again_with_new_keys(cluster, recorded, edited, revision):
    execution_id = recorded["completed"]
    detail, received = await cluster.replay(execution_id, ReplayOptions(**EDITED[edited], **REVISIONS[revision]))
    assert names(received) == ["a", "b", "c"]
    assert received[0][2] == {"data": {"n": 5 if edited == "edited" else 1}}
    assert scopes(received) == {detail.execution.id}
    assert detail.execution.flow_revision == (2 if revision == "latest" else 1)
    assert detail.event.replay == ReplayOrigin(edited_from=execution_id if edited == "edited" else "")
    assert ("revision" in orjson.loads(detail.output)) is (revision == "latest")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_from_the_failed_task_what_succeeded_is_taken_over_and_keys_stay(cluster, recorded, revision):
    execution_id = recorded["faulted"]
    detail, received = await cluster.replay(execution_id, ReplayOptions(from_failed=True, **REVISIONS[revision]))
    assert names(received) == ["b", "c"]
    assert scopes(received) == {execution_id}
    assert detail.event.replay == ReplayOrigin(from_failed_task=True)
    assert detail.execution.flow_revision == (2 if revision == "latest" else 1)


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("task", "again"), [("/do/0/a", "abc"), ("/do/1/mid", "bc"), ("/do/2/b", "bc"), ("/do/3/c", "c")]
)
async def test_from_a_task_it_and_those_after_it_run_again_with_new_keys(cluster, recorded, task, again, revision):
    execution_id = recorded["completed"]
    preview = await cluster.client.executions.preview_replay(
        execution_id, ReplayOptions(from_task=task, **REVISIONS[revision])
    )
    detail, received = await cluster.replay(execution_id, ReplayOptions(from_task=task, **REVISIONS[revision]))
    assert "".join(names(received)) == again
    assert scopes(received) == {detail.execution.id}
    assert detail.event.replay == ReplayOrigin(task=task, attachment_owner=execution_id)
    assert preview.flow_revision == detail.execution.flow_revision
    assert preview.taken_over == tuple(
        ReplayedTask(each, "call") for each in ("/do/0/a", "/do/2/b") if each[-1] not in again
    )
    assert [each.task[-1] for each in preview.again if each.kind == "call"] == list(again)
    assert not preview.keeps_idempotency_keys


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("status", ["completed", "faulted"])
@pytest.mark.parametrize("task", ["/do/0/a", "/do/1/mid", "/do/2/b"])
async def test_with_an_output_given_the_task_is_not_performed(cluster, recorded, task, status, revision):
    execution_id, again = recorded[status], "c" if task == "/do/2/b" else "bc"
    given = {"from_task": task, "output": b'{"given": true}', **REVISIONS[revision]}
    preview = await cluster.client.executions.preview_replay(execution_id, ReplayOptions(**given))
    assert task not in [each.task for each in preview.again]
    detail, received = await cluster.replay(execution_id, ReplayOptions(**given))
    assert "".join(names(received)) == again
    wanted = {"given": True} if task != "/do/0/a" else {"seen": {"given": True}}
    assert received[0][2] == {"data": wanted}
    assert scopes(received) == {detail.execution.id}
    assert detail.event.replay == ReplayOrigin(task=task, output_given=True, attachment_owner=execution_id)


async def test_the_last_task_gets_an_output(cluster, recorded):
    detail, received = await cluster.replay(recorded["completed"], ReplayOptions(from_task="/do/3/c", output=b"7"))
    assert (received, orjson.loads(detail.output)) == ([], 7)
    assert [entry.key for entry in detail.journal] == ["/do/0/a#0", "/do/2/b#0", "/do/3/c#4.0:output"]


async def test_a_replay_of_a_replay_goes_on_from_it(cluster, recorded):
    first, _ = await cluster.replay(recorded["completed"], ReplayOptions(body=b'{"n": 8}'))
    second, received = await cluster.replay(first.execution.id, ReplayOptions(from_task="/do/2/b", output=b"1"))
    assert second.event.replay == ReplayOrigin(
        task="/do/2/b",
        output_given=True,
        edited_from=recorded["completed"],
        attachment_owner=first.execution.id,
    )
    third, received = await cluster.replay(second.execution.id, ReplayOptions(from_task="/do/3/c"))
    assert (names(received), received[0][2]) == (["c"], {"data": 1})
    # a task that was taken over is found by its entry, and then the output that was given is gone
    fourth, received = await cluster.replay(third.execution.id, ReplayOptions(from_task="/do/0/a"))
    assert names(received) == ["a", "b", "c"]
    assert fourth.event.replay.attachment_owner == first.execution.id
    assert fourth.event.body == b'{"n": 8}'
    fifth, _ = await cluster.replay(fourth.execution.id)
    assert fifth.event.replay == ReplayOrigin(edited_from=recorded["completed"])


async def test_in_loops_functions_and_a_fork(cluster):
    loop = f"{{for: {{in: '${{ [1, 2, 3] }}', each: i}}, do: [{{c: {cluster.call('nested', 'c', '${ $i }')}}}]}}"
    fork = f"{{fork: {{branches: [{{p: {cluster.call('nested', 'p')}}}, {{q: {cluster.call('nested', 'q')}}}]}}}}"
    functions = f"use: {{functions: {{twice: {{do: [{{x: {cluster.call('nested', 'x', '1')}}}]}}}}}}\n"
    await cluster.apply("nested", ("l", loop), ("f", fork), ("t", "{call: twice}"), head=functions)
    execution_id = await cluster.run("nested", {})
    _, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/0/l/do/0/c[1]"))
    assert [body["data"] for path, _, body in received if path.endswith("/c")] == [2, 3]
    _, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/1/f/fork/branches/1/q"))
    assert names(received) == ["q", "x"]  # the other branch began before
    _, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/2/t#0 /use/functions/twice/do/0/x"))
    assert names(received) == ["x"]


async def test_a_handle_of_an_attachment_stays_valid_where_keys_are_new(cluster):
    body = "{handle: '${ .attachments[0].attachment }'}"
    keep = f'{{method: post, endpoint: "{cluster.world.base}/files/keep", body: {body}}}'
    await cluster.apply(
        "files",
        ("keep", f'{{call: http, with: {keep}, output: {{as: "${{ $input }}"}}}}'),
        ("mid", "{set: {handle: '${ .attachments[0].attachment }', size: '${ .attachments[0].size }'}}"),
        ("last", cluster.call("files", "last")),
        head="webhook: {auth: none}\n",
    )
    execution_id = await cluster.run("files", b"\x00\x01", content_type="image/png")
    _, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/2/last"))
    assert received[0][2] == {"data": {"handle": f"{execution_id}/0", "size": 2}}


async def test_an_edited_body_is_one_of_its_own(cluster):
    head = "webhook: {auth: none}\nexecution: {order_by: '${ .body.account }'}\n"
    await cluster.apply("bodies", ("keep", "{set: '${ . }'}"), head=head)
    headers = [
        ("content-type", b"text/plain"),
        ("content-encoding", b"identity"),
        ("content-length", b"3"),
        ("x", b"y"),
    ]
    first = await cluster.run("bodies", b"old", content_type="text/plain", headers=headers, dedupe_key="d1")
    detail, _ = await cluster.replay(first, ReplayOptions(body=b'{"account": "k1"}', content_type="application/json"))
    event, seen = detail.event, orjson.loads(detail.output)
    assert (event.body, event.content_type) == (b'{"account": "k1"}', "application/json")
    assert event.headers == (("x", b"y"), ("content-type", b"application/json"))
    assert (event.dedupe_key, event.principal) == ("", None)
    assert seen["body"] == {"account": "k1"}
    assert seen["id"] == detail.execution.id
    # an empty body is one, too
    detail, _ = await cluster.replay(first, ReplayOptions(body=b""))
    assert (detail.event.body, detail.event.content_type) == (b"", "text/plain")


async def test_the_order_key_is_made_anew_of_an_edited_body(cluster):
    head = "webhook: {auth: none}\nexecution: {order_by: '${ .body.account }'}\n"
    await cluster.apply("ordered", ("keep", "{set: '${ .body }'}"), head=head)
    first = await cluster.run("ordered", {"account": "k1"})
    await cluster.apply("ordered", ("wait", "{wait: {hours: 1}}"), head=head)
    await cluster.client.ingest("ordered", {"account": "k1"})
    blocked = await cluster.client.executions.replay(first)
    free = await cluster.client.executions.replay(first, ReplayOptions(body=b'{"account": "k2"}'))
    await cluster.end(free.id)
    assert (await cluster.client.executions.get(blocked.id)).execution.status is Status.PENDING


async def test_search_attributes_are_made_anew_of_an_edited_body(cluster):
    head = "webhook: {auth: none}\nexecution: {search: {order: .body.order, region: .body.region}}\n"
    await cluster.apply("found", ("keep", "{set: '${ .body }'}"), head=head)
    first = await cluster.run("found", {"order": 1, "region": "north"})
    edited, _ = await cluster.replay(first, ReplayOptions(body=b'{"order": 2}'))
    assert edited.attributes == (("order", "2"),)
    plain, _ = await cluster.replay(first, ReplayOptions(from_task="/do/0/keep"))
    assert plain.attributes == (("order", "1"), ("region", "north"))


async def test_an_edited_input_of_a_flow_that_no_request_started_is_json(cluster):
    await cluster.apply("child", ("keep", "{set: '${ {got: .} }'}"))
    run = "{run: {workflow: {namespace: default, name: child, version: 1.0.0, input: {a: 1}}}}"
    await cluster.apply("parent", ("start", run))
    await cluster.run("parent", {})
    (child,) = [each async for each in cluster.client.executions.list(flow_id="child")]
    with pytest.raises(InvalidError, match="not JSON") as caught:
        await cluster.client.executions.replay(child.id, ReplayOptions(body=b"{"))
    assert caught.value.reason == "BODY_INVALID"
    detail, _ = await cluster.replay(child.id, ReplayOptions(body=b"[1]"))
    assert orjson.loads(detail.output) == {"got": [1]}


async def test_a_flow_that_was_run_before_the_task_is_not_run_again(cluster):
    await cluster.apply("inner", "a")
    run = "{run: {workflow: {namespace: default, name: inner, version: 1.0.0}}}"
    branches = f"{{fork: {{branches: [{{start: {run}}}, {{b: {cluster.call('outer', 'b')}}}]}}}}"
    await cluster.apply("outer", ("f", branches), "c")
    execution_id = await cluster.run("outer", {})
    children = [each.id async for each in cluster.client.executions.list(flow_id="inner")]
    for task in ("/do/0/f/fork/branches/1/b", "/do/1/c"):
        await cluster.replay(execution_id, ReplayOptions(from_task=task))
        assert [each.id async for each in cluster.client.executions.list(flow_id="inner")] == children
    await cluster.replay(execution_id, ReplayOptions(from_task="/do/0/f/fork/branches/0/start"))
    assert len([each async for each in cluster.client.executions.list(flow_id="inner")]) == len(children) + 1


async def test_on_a_revision_that_makes_other_calls_it_faults_instead_of_guessing(cluster):
    await cluster.apply("changed", "a", "b", "c")
    execution_id = await cluster.run("changed", {})
    await cluster.apply("changed", "other", "b", "c")
    detail, received = await cluster.replay(
        execution_id, ReplayOptions(from_task="/do/2/c", latest=True), Status.FAULTED
    )
    assert "the journal diverged from the flow" in detail.execution.error.detail
    assert received == []


async def test_a_replay_from_a_task_after_a_wait_begins_after_the_snapshot(cluster):
    await cluster.apply("waits", "a", ("pause", "{wait: {milliseconds: 10}}"), "b", "c")
    execution_id = await cluster.run("waits", {})
    with pytest.raises(ConflictError, match="/do/1/pause or a later task") as caught:
        await cluster.client.executions.replay(execution_id, ReplayOptions(from_task="/do/0/a"))
    assert caught.value.reason == "JOURNAL_COMPACTED"
    detail, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/2/b"))
    assert names(received) == ["b", "c"]
    assert scopes(received) == {detail.execution.id}
    await cluster.apply("waits", "a", ("pause", "{wait: {milliseconds: 10}}"), "b", "c", "d")
    with pytest.raises(ConflictError, match="revision 1 only") as caught:
        await cluster.client.executions.replay(execution_id, ReplayOptions(from_task="/do/2/b", latest=True))
    assert caught.value.reason == "JOURNAL_COMPACTED"
    preview = await cluster.client.executions.preview_replay(execution_id, ReplayOptions(from_task="/do/2/b"))
    assert [(each.task, each.kind) for each in preview.taken_over] == [("/do/0/a", "call"), ("/do/1/pause", "wait")]


async def test_a_preview_tells_what_each_start_does(cluster, recorded):
    preview = cluster.client.executions.preview_replay
    start = await preview(recorded["completed"], ReplayOptions(latest=True))
    assert (start.flow_revision, start.taken_over) == (2, ())
    assert [each.task for each in start.again] == ["/do/0/a", "/do/1/mid", "/do/2/b", "/do/3/c"]
    assert [each.kind for each in start.again] == ["call", "set", "call", "call"]
    failed = await preview(recorded["faulted"], ReplayOptions(from_failed=True))
    assert failed == (1, (ReplayedTask("/do/0/a", "call"),), (ReplayedTask("/do/2/b", "call"),), True, 2)
    before = [each.id async for each in cluster.client.executions.list(flow_id="shop")]
    assert before == [each.id async for each in cluster.client.executions.list(flow_id="shop")]


async def test_viewers_preview_and_do_not_replay(cluster, recorded):
    async with cluster.router.client("view") as viewer:
        assert (await viewer.executions.preview_replay(recorded["completed"])).again
        with pytest.raises(PermissionDeniedError):
            await viewer.executions.replay(recorded["completed"])


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"from_task": "/do/9/x"}, NotFoundError, "TASK_NOT_FOUND"),
        ({"from_task": "/do/9/x", "output": b"1"}, NotFoundError, "TASK_NOT_FOUND"),
        ({"from_task": "x" * 5000}, InvalidError, "TASK_REQUIRED"),
        ({"from_task": "/do/0/a", "output": b"{"}, InvalidError, "BODY_INVALID"),
        ({"from_task": "/do/0/a", "output": b""}, InvalidError, "BODY_INVALID"),
        ({"from_task": "/do/0/a", "output": b'"\xff"'}, InvalidError, "BODY_INVALID"),
        ({"from_task": "/do/0/a", "output": b"[" * 100_000}, InvalidError, "BODY_INVALID"),
        ({"from_task": "/do/0/a", "output": b" " * 2**20 + b"1"}, InvalidError, "OUTPUT_TOO_LARGE"),
        ({"output": b"1"}, InvalidError, "TASK_WITHOUT_START"),
        ({"from_task": "/do/0/a", "body": b"1"}, InvalidError, "EDIT_NOT_FROM_BEGINNING"),
        ({"from_failed": True, "body": b"1"}, InvalidError, "EDIT_NOT_FROM_BEGINNING"),
        ({"from_failed": True, "from_task": "/do/0/a"}, InvalidError, "START_INVALID"),
        ({"from_failed": True}, ConflictError, "EXECUTION_NOT_FAILED"),
        ({"content_type": "text/plain"}, InvalidError, "BODY_MISSING"),
        ({"body": b" " * 2**20 + b"1"}, InvalidError, "BODY_TOO_LARGE"),
        ({"body": b"{"}, InvalidError, "BODY_INVALID"),
        ({"body": b"{", "content_type": "application/json"}, InvalidError, "BODY_INVALID"),
        ({"body": b"1", "content_type": "a\nb"}, InvalidError, "CONTENT_TYPE_INVALID"),
        ({"body": b"1", "content_type": "x" * 257}, InvalidError, "CONTENT_TYPE_INVALID"),
    ],
)
async def test_what_makes_no_sense_is_refused(cluster, recorded, options, error, reason):
    for call in (cluster.client.executions.replay, cluster.client.executions.preview_replay):
        with pytest.raises(error) as caught:
            await call(recorded["completed"], ReplayOptions(**options))
        assert caught.value.reason == reason


async def test_what_has_not_ended_or_is_unknown_or_whose_flow_is_deleted_is_refused(cluster):
    await cluster.apply("endless", "a", ("wait", "{wait: {hours: 1}}"))
    running = await cluster.client.ingest("endless", {})
    for call in (cluster.client.executions.replay, cluster.client.executions.preview_replay):
        with pytest.raises(ConflictError) as caught:
            await call(running, ReplayOptions(from_task="/do/0/a"))
        assert caught.value.reason == "EXECUTION_NOT_ENDED"
        with pytest.raises(NotFoundError) as unknown:
            await call(MISSING)
        assert unknown.value.reason == "EXECUTION_NOT_FOUND"
    await cluster.apply("deleted", "a", "b")
    execution_id = await cluster.run("deleted", {})
    await cluster.client.flows.delete("deleted")
    with pytest.raises(NotFoundError) as deleted:
        await cluster.client.executions.replay(execution_id, ReplayOptions(from_task="/do/1/b", latest=True))
    assert deleted.value.reason == "FLOW_NOT_FOUND"
    _, received = await cluster.replay(execution_id, ReplayOptions(from_task="/do/1/b"))
    assert names(received) == ["b"]
    _, received = await cluster.replay(execution_id, ReplayOptions(body=b"[]"))
    assert received[0][2] == {"data": []}


async def test_a_request_id_makes_one_replay(cluster, recorded):
    options, replay = ReplayOptions(from_task="/do/3/c", output=b"1"), cluster.client.executions.replay
    calls = [replay(recorded["completed"], options, request_id="once") for _ in range(3)]
    assert len({each.id for each in await asyncio.gather(*calls)}) == 1
