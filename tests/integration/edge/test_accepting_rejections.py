"""Refused requests are verified again by a real edge, before a real router, and accepted after the fix."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from support.edges import running_edge
from support.patience import PATIENCE
from support.routers import running_router

from flowhook.client import channel
from flowhook.errors import ConflictError, InvalidError, NotFoundError, PermissionDeniedError
from flowhook.model.rejections import TEST_TRACE, Acceptability, RequestOutcome
from flowhook.security import callback_tokens
from flowhook.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub
from router.secrets.callback_keys import CallbackKeys
from router.storage.encryption import require_secrets_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"order": 7}'
JSON = {"Content-Type": "application/json"}
TYPO = "a-secret-typo-9f3c"
KEYED = "{api_key: {header: X-Api-Key, secret: NAME}}"


class Place:
    """A router, an edge, a client of an operator and one that sends requests."""

    def __init__(self, router, address, client, session):
        self.router = router
        self.client = client
        self.address = address
        self._session = session

    async def apply(self, name, auth, extra="keep_rejected_bodies: true"):
        document = (
            f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
            f"webhook: {{auth: {auth.replace('NAME', name)}, {extra}}}\n"
            "do: [{keep: {set: '${ .body }'}}]\n"
        )
        await self.client.flows.apply([document.encode()])

    async def post(self, path, body=BODY, **headers):
        fields = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(f"http://{self.address}/hook/{path}", data=body, headers=fields) as answer:
            return answer.status

    async def rejection(self, flow_id):
        """Return the latest rejection of a flow, once it is reported."""
        async with asyncio.timeout(PATIENCE):
            while not (page := await self.client.rejections.page(flow_id=flow_id, page_size=1)).items:
                await asyncio.sleep(0.02)
        return await self.client.rejections.get(page.items[0].id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory):
    async with (
        running_router(tmp_path_factory.mktemp("router") / "data") as router,
        running_edge(router) as address,
        router.client() as client,
        aiohttp.ClientSession() as session,
    ):
        yield Place(router, address, client, session)


async def listed(place, flow_id, *, reported):
    """Return the requests of a flow, once so many are reported that started no execution."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = [each async for each in place.client.rejections.requests(flow_id=flow_id)]
            if sum(bool(each.rejection_id) for each in found) == reported:
                return found
            await asyncio.sleep(0.02)


def github(key, body=BODY):
    return {"X_Hub_Signature_256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()}


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"bank:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("name", "auth", "headers"),
    [
        ("by-key", KEYED, {"X_Api_Key": TYPO}),
        ("by-password", "{basic: {username: bank, secret: NAME}}", basic(TYPO)),
        ("by-signature", "{github: {secret: NAME}}", github(TYPO.encode())),
    ],
)
async def test_it_is_accepted_once_the_secret_is_corrected(place, name, auth, headers):
    await place.client.secrets.set(name, b"wrong")
    await place.apply(name, auth)
    assert await place.post(name, **headers) == 401
    rejection = await place.rejection(name)
    assert (rejection.acceptability, rejection.body) == (Acceptability.ACCEPTABLE, BODY)
    await place.client.secrets.set(name, TYPO.encode())
    accepted = await place.client.rejections.accept(rejection.id)
    assert not accepted.duplicate
    assert await place.client.rejections.accept(rejection.id) == type(accepted)(
        accepted.event_id, accepted.execution_id, duplicate=True
    )
    [execution] = (await place.client.executions.page(flow_id=name)).items
    event = (await place.client.executions.get(execution.id)).event
    assert (event.id, event.body, event.rejection_id) == (accepted.execution_id, BODY, rejection.id)
    assert event.principal.secret == name
    assert not {"x-api-key", "authorization", "x-hub-signature-256"} & {field for field, _ in event.headers}
    assert event.receive_time_ms >= rejection.time_ms
    found = await place.client.rejections.get(rejection.id)
    assert (found.accepted_event_id, found.accepted_by) == (execution.id, "admin")
    assert found.accepted_at >= found.refused_at


async def test_what_is_still_wrong_is_refused_with_the_diagnosis_and_can_be_accepted_later(place):
    await place.client.secrets.set("still", b"first")
    await place.apply("still", "{github: {secret: NAME}}")
    assert await place.post("still", b'{"order":7}', **github(b"right")) == 401
    rejection = await place.rejection("still")
    await place.client.secrets.set("still", b"second")
    with pytest.raises(
        ConflictError, match=r"still refused: SIGNATURE_MISMATCH: the signature does not match"
    ) as raised:
        await place.client.rejections.accept(rejection.id)
    assert (raised.value.reason, raised.value.metadata["reason"]) == ("STILL_REFUSED", "SIGNATURE_MISMATCH")
    await place.client.secrets.set("still", b"right")
    with pytest.raises(ConflictError, match="wrote it again"):
        await place.client.rejections.accept(rejection.id)
    assert not (await place.client.executions.page(flow_id="still")).items


async def test_a_flow_that_lets_everybody_in_now_accepts_it(place):
    await place.apply("opened", "{github: {secret: NAME}}")
    assert await place.post("opened") == 401
    rejection = await place.rejection("opened")
    await place.apply("opened", "none")
    assert (await place.client.rejections.accept(rejection.id)).execution_id


@pytest.mark.parametrize(
    ("extra", "words"), [("allow_from: [192.0.2.0/24]", "ADDRESS_FORBIDDEN"), ("methods: [PUT]", "METHOD_NOT_ALLOWED")]
)
async def test_other_checks_of_the_flow_hold_as_well(place, extra, words):
    name = words.lower().replace("_", "-")
    await place.apply(name, KEYED)
    assert await place.post(name, X_Api_Key=TYPO) == 401
    rejection = await place.rejection(name)
    await place.client.secrets.set(name, TYPO.encode())
    await place.apply(name, KEYED, f"keep_rejected_bodies: true, {extra}")
    with pytest.raises(ConflictError, match=words):
        await place.client.rejections.accept(rejection.id)


async def test_what_is_not_stored_can_not_be_accepted(place):
    await place.client.secrets.set("unstored", b"x")
    await place.apply("unstored", KEYED, "keep_rejected_bodies: false")
    assert await place.post("unstored", X_Api_Key=TYPO) == 401
    rejection = await place.rejection("unstored")
    assert (rejection.acceptability, rejection.body) == (Acceptability.NOT_STORED, b"")
    with pytest.raises(ConflictError, match="keep_rejected_bodies") as raised:
        await place.client.rejections.accept(rejection.id)
    assert raised.value.reason == "REJECTION_NOT_ACCEPTABLE"


async def test_what_was_too_large_or_came_in_pieces_can_not_be_accepted(place):
    async def pieces():
        yield BODY

    for name, body in (("large", b"1" * (64 * 1024 + 1)), ("pieces", pieces())):
        await place.client.secrets.set(name, b"x")
        await place.apply(name, KEYED)
        assert await place.post(name, body, X_Api_Key=TYPO) == 401
        assert (await place.rejection(name)).acceptability is Acceptability.INCOMPLETE


async def test_what_was_refused_for_another_reason_can_not_be_accepted(place):
    await place.apply("malformed", "none")
    assert await place.post("malformed", b"{") == 400
    rejection = await place.rejection("malformed")
    assert rejection.acceptability is Acceptability.NOT_AUTHENTICATION
    with pytest.raises(ConflictError, match="can't be accepted"):
        await place.client.rejections.accept(rejection.id)


async def test_the_event_of_a_callback_is_accepted_and_starts_nothing(place):
    await place.client.secrets.set("listening", b"x")
    document = (
        "document: {dsl: 1.0.3, namespace: default, name: listening, version: 1.0.0}\n"
        "webhook:\n"
        "  auth: none\n"
        "  callbacks:\n"
        f"    done: {{auth: {KEYED.replace('NAME', 'listening')}, keep_rejected_bodies: true}}\n"
        "do: [{wait: {listen: {to: {one: {with: {type: done}, correlate: {o: {from: '${ .data.body.order }'}}}}}}}]\n"
    )
    await place.client.flows.apply([document.encode()])
    assert await place.post("listening/done", X_Api_Key=TYPO) == 401
    rejection = await place.rejection("listening")
    await place.client.secrets.set("listening", TYPO.encode())
    accepted = await place.client.rejections.accept(rejection.id)
    assert (accepted.execution_id, accepted.event_id) == ("", f"evt_{rejection.id[4:]}")
    assert (await place.client.rejections.accept(rejection.id)).event_id == accepted.event_id
    assert not (await place.client.executions.page(flow_id="listening")).items


async def test_one_that_the_sender_repeated_meanwhile_is_a_duplicate(place):
    await place.client.secrets.set("repeated", b"x")
    await place.apply("repeated", KEYED, "keep_rejected_bodies: true, dedupe: {key: '${ .body.order }'}")
    assert await place.post("repeated", X_Api_Key=TYPO) == 401
    rejection = await place.rejection("repeated")
    await place.client.secrets.set("repeated", TYPO.encode())
    async with asyncio.timeout(PATIENCE):  # until the edge knows the secret
        while await place.post("repeated", X_Api_Key=TYPO) != 202:
            await asyncio.sleep(0.02)
    [execution] = (await place.client.executions.page(flow_id="repeated")).items
    accepted = await place.client.rejections.accept(rejection.id)
    assert (accepted.duplicate, accepted.execution_id) == (True, execution.id)
    assert (await place.client.rejections.get(rejection.id)).accepted_event_id == execution.id


async def test_the_rejection_of_a_deleted_flow_is_answered(place):
    await place.client.secrets.set("gone", b"x")
    await place.apply("gone", KEYED)
    assert await place.post("gone", X_Api_Key=TYPO) == 401
    rejection = await place.rejection("gone")
    await place.client.flows.delete("gone")
    with pytest.raises(NotFoundError) as raised:
        await place.client.rejections.accept(rejection.id)
    assert raised.value.reason == "FLOW_NOT_FOUND"
    with pytest.raises(NotFoundError) as raised:
        await place.client.rejections.accept("rej_none")
    assert raised.value.reason == "REJECTION_NOT_FOUND"


async def test_a_viewer_may_read_and_count_but_not_accept(place):
    await place.client.secrets.set("viewed", b"x")
    await place.apply("viewed", KEYED)
    assert await place.post("viewed", X_Api_Key=TYPO) == 401
    rejection = await place.rejection("viewed")
    async with place.router.client("view") as viewer:
        assert (await viewer.rejections.get(rejection.id)).body == BODY
        assert [each.count for each in await viewer.rejections.count(flow_id="viewed")] == [1]
        with pytest.raises(PermissionDeniedError):
            await viewer.rejections.accept(rejection.id)
    async with channel.connect(place.router.target, place.router.token("view")) as connection:
        with pytest.raises(Exception, match="PERMISSION_DENIED"):
            async for _ in RejectionServiceStub(connection).AttachVerifier(iter(())):
                pass


async def test_no_credential_is_shown_logged_or_legible_in_the_database(place, caplog):
    secret = "not-to-be-seen-71ac"
    await place.client.secrets.set("sealed", b"x")
    await place.apply("sealed", KEYED)
    with caplog.at_level(logging.DEBUG):
        assert await place.post("sealed", X_Api_Key=secret) == 401
        rejection = await place.rejection("sealed")
        with pytest.raises(ConflictError) as raised:
            await place.client.rejections.accept(rejection.id)
        await place.client.secrets.set("sealed", secret.encode())
        await place.client.rejections.accept(rejection.id)
    assert secret not in caplog.text + str(raised.value) + repr(rejection)
    async with channel.connect(place.router.target, place.router.token("admin")) as connection:
        stub = RejectionServiceStub(connection)
        answers = [
            await stub.GetRejection(pb.GetRejectionRequest(rejection_id=rejection.id)),
            await stub.ListRejections(pb.ListRejectionsRequest()),
        ]
    assert not any(secret.encode() in answer.SerializeToString() for answer in answers)
    files = [path for path in Path(place.router.settings.data_dir).rglob("flowhook.db*") if path.is_file()]
    assert files
    assert not any(secret.encode() in path.read_bytes() for path in files)


async def test_no_other_service_marks_an_event_as_accepted_after_a_rejection(place):
    await place.apply("marked", "none")
    async with channel.connect(place.router.target, place.router.token("edge")) as connection:
        stub = ingest_service_pb2_grpc.IngestServiceStub(connection)
        event = {"flow_id": "marked", "body": BODY, "content_type": "application/json", "rejection_id": "rej_1"}
        answer = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))
    assert answer.results[0].rejected.reason == "ORIGIN_INVALID"


async def test_it_can_be_accepted_after_the_router_was_restarted(tmp_path):
    async with aiohttp.ClientSession() as session:
        async with running_router(tmp_path) as router, router.client() as client, running_edge(router) as address:
            place = Place(router, address, client, session)
            await client.secrets.set("k", b"x")
            await place.apply("kept", KEYED.replace("NAME", "k"))
            assert await place.post("kept", X_Api_Key=TYPO) == 401
            rejection = await place.rejection("kept")
        async with running_router(tmp_path) as router, router.client() as client, running_edge(router):
            await client.secrets.set("k", TYPO.encode())
            assert (await client.rejections.accept(rejection.id)).execution_id == f"evt_{rejection.id[4:]}"


async def test_one_that_was_sealed_with_another_key_is_unreadable(tmp_path):
    keys = [base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2)]
    async with aiohttp.ClientSession() as session:
        async with (
            running_router(tmp_path, secrets_key=keys[0]) as router,
            router.client() as client,
            running_edge(router) as address,
        ):
            place = Place(router, address, client, session)
            await place.apply("rekeyed", KEYED)
            assert await place.post("rekeyed", X_Api_Key=TYPO) == 401
            rejection = await place.rejection("rekeyed")
        async with (
            running_router(tmp_path, secrets_key=keys[1], discard_secrets=True) as router,
            router.client() as client,
        ):
            with pytest.raises(ConflictError) as raised:
                await client.rejections.accept(rejection.id)
    assert raised.value.reason == "REJECTION_UNREADABLE"


async def test_a_report_can_not_claim_that_a_request_was_accepted(place):
    refused = pb.Rejection(
        id="rej_01999999990000000000000000", flow_id="claimed", accepted_event_id="evt_1", acceptability=1
    )
    refused.accept_time.GetCurrentTime()
    async with channel.connect(place.router.target, place.router.token("edge")) as connection:
        await RejectionServiceStub(connection).ReportRejections(pb.ReportRejectionsRequest(rejections=[refused]))
    found = await place.client.rejections.get(refused.id)
    assert (found.accepted_event_id, found.accepted_at) == ("", None)
    assert found.acceptability is Acceptability.INCOMPLETE  # nothing to verify it by was reported
    with pytest.raises((ConflictError, InvalidError)):
        await place.client.rejections.accept(refused.id)


async def test_what_violated_the_schema_is_accepted_once_the_flow_is_corrected(place):
    accept = "accept: {{filter: '${{ .body.order }}', schema: {{document: {{properties: {{body: {{{}}}}}}}}}}}"
    await place.apply("orders", "none", accept.format("required: [price]"))
    assert await place.post("orders") == 422
    rejection = await place.rejection("orders")
    assert (rejection.reason, rejection.body) == ("SCHEMA_VIOLATED", BODY)
    with pytest.raises(ConflictError, match=r"still refused: SCHEMA_VIOLATED: \.body does not meet required"):
        await place.client.rejections.accept(rejection.id)
    await place.apply("orders", "none", accept.format("required: [order]"))
    accepted = await place.client.rejections.accept(rejection.id)
    assert (await place.client.executions.get(accepted.execution_id)).event.body == BODY


async def test_everything_that_arrived_is_in_one_list(place):
    accept = "accept: {filter: '${ .body.order }'}, dedupe: {key: '${ .body.order }'}"
    await place.apply("all", "none", accept)
    traced = f"{TEST_TRACE}{24 * '1'}-{16 * '2'}-01"
    first = [await place.post("all", b'{"order":%d}' % number) for number in (1, 1)]
    others = [
        await place.post("all", b'{"other":1}'),
        await place.post("all", b"{"),
        await place.post("all", b'{"order":2}', traceparent=traced),
    ]
    assert (first, others) == ([202, 202], [204, 400, 202])
    found = await listed(place, "all", reported=4)
    executions = [each async for each in place.client.executions.list(flow_id="all")]
    tested, original = (each.id for each in executions)
    assert {(each.outcome, each.execution_id, each.status, each.reason) for each in found} == {
        ("accepted", original, 0, ""),
        ("duplicate", original, 202, "DUPLICATE"),
        ("filtered", "", 204, "FILTERED"),
        ("refused", "", 400, "BODY_INVALID"),
        ("test", tested, 202, "TEST"),
    }
    assert [each.time_ms for each in found] == sorted((each.time_ms for each in found), reverse=True)
    one_by_one = []
    token = "-"
    while token:
        page = await place.client.rejections.requests_page(
            flow_id="all", page_size=1, page_token="" if token == "-" else token
        )
        one_by_one += page.items
        token = page.next_page_token
    assert one_by_one == found
    for outcome in ("accepted", "filtered", "duplicate", "test"):
        kept = [each async for each in place.client.rejections.requests(flow_id="all", outcome=RequestOutcome(outcome))]
        assert kept == [each for each in found if each.outcome == outcome]
    assert [each.reason async for each in place.client.rejections.list(flow_id="all")] == ["BODY_INVALID"]
    with pytest.raises(ConflictError, match="it was not refused"):
        await place.client.rejections.accept(next(each.rejection_id for each in found if each.outcome == "filtered"))
    for token in ("x", "1.x", "1" * 30, "-1.2"):
        with pytest.raises(InvalidError):
            await place.client.rejections.requests_page(page_token=token)


async def test_accepted_callbacks_are_in_the_list_with_the_execution_that_they_are_for(place):
    document = (
        "document: {dsl: 1.0.3, namespace: default, name: waits, version: 1.0.0}\n"
        "webhook:\n"
        "  auth: none\n"
        "  callbacks: {done: {auth: none, dedupe: {key: '${ .body.order }'}}}\n"
        "do: [{wait: {listen: {to: {one: {with: {type: done}, correlate: {o: {from: '${ .data.body.order }',"
        " expect: '${ .body.order }'}}}}}}}]\n"
    )
    await place.client.flows.apply([document.encode()])
    waiting = await place.client.ingest("waits", b"{}")
    key = CallbackKeys(require_secrets_key(Path(place.router.settings.data_dir))).of("waits")
    token = callback_tokens.issue(key, waiting, "done", 0)
    assert [await place.post(path) for path in ("waits/done", "waits/done", f"waits/done/{token}")] == [202] * 3
    found = await listed(place, "waits", reported=3)
    assert [(each.outcome, each.callback, each.execution_id, each.reason, each.path) for each in found] == [
        ("accepted", "done", waiting, "ACCEPTED", "/hook/waits/done/…"),
        ("duplicate", "done", "", "DUPLICATE", "/hook/waits/done"),
        ("accepted", "done", "", "ACCEPTED", "/hook/waits/done"),
        ("accepted", "", waiting, "", ""),
    ]
    first, again = [await place.client.rejections.get(found[index].rejection_id) for index in (2, 1)]
    assert first.detail == again.detail
    assert first.detail.startswith("the event is evt_")
    accepted = place.client.rejections.requests(flow_id="waits", outcome=RequestOutcome.ACCEPTED)
    assert [each async for each in accepted] == [each for each in found if each.outcome == "accepted"]


async def test_a_repetition_of_a_request_that_waits_for_its_reply_is_in_the_list(place):
    extra = "respond: {mode: reply, timeout: PT0.05S}, dedupe: {key: '${ .body.order }'}"
    await place.apply("asks", "none", extra)
    traced = f"{TEST_TRACE}{24 * '1'}-{16 * '2'}-01"
    assert [await place.post("asks") for _ in range(2)] == [202, 202]
    assert await place.post("asks", b'{"order":8}', traceparent=traced) == 202
    found = await listed(place, "asks", reported=2)
    tested, original = [each.id async for each in place.client.executions.list(flow_id="asks")]
    assert [(each.outcome, each.execution_id) for each in found] == [
        ("test", tested),
        ("duplicate", original),
        ("accepted", original),
    ]


async def test_when_an_execution_is_erased_its_repetitions_and_tests_are_no_longer_in_the_list(place):
    await place.apply("forgets", "none", "dedupe: {key: '${ .body.order }'}")
    traced = f"{TEST_TRACE}{24 * '1'}-{16 * '2'}-01"
    assert [await place.post("forgets") for _ in range(2)] == [202, 202]
    assert await place.post("forgets", b'{"order":8}', traceparent=traced) == 202
    repeated = next(each for each in await listed(place, "forgets", reported=2) if each.outcome == "duplicate")
    with pytest.raises(ConflictError, match="it was not refused"):
        await place.client.rejections.accept(repeated.rejection_id)
    for execution in [each async for each in place.client.executions.list(flow_id="forgets")]:
        await place.client.executions.delete(execution.id, erase=True, cancel=True)
    assert await listed(place, "forgets", reported=0) == []
