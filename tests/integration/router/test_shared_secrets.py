"""A secret whose handshake signs what others choose belongs to one kind of `auth`, in all flows."""

from __future__ import annotations

import pytest
from support.routers import flow

from flowhook.errors import InvalidFlowError


def webhook(name, auth, callback=None):
    extra = b"webhook:\n  auth: " + auth.encode() + b"\n"
    if callback:
        extra += b"  callbacks: {done: {auth: " + callback.encode() + b"}}\n"
    return flow(name, extra)


X, ZOOM, GITHUB = "{x: {secret: shared}}", "{zoom: {secrets: [other, shared]}}", "{github: {secret: shared}}"


async def refused(client, *documents, dry_run=False):
    with pytest.raises(InvalidFlowError) as refusal:
        await client.flows.apply(list(documents), dry_run=dry_run)
    return refusal.value.faults


@pytest.mark.parametrize(("first", "second"), [(X, GITHUB), (GITHUB, X), (GITHUB, ZOOM), (ZOOM, GITHUB), (X, ZOOM)])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_flow_that_shares_such_a_secret_with_a_stored_one_is_refused(client, first, second, dry_run):
    await client.flows.apply([webhook("stored", first)])
    (fault,) = await refused(client, flow("plain"), webhook("second", second), dry_run=dry_run)
    assert (fault.file, fault.key, fault.code) == ("1", "webhook.auth", "SECRET_SHARED")
    for part in ("secret shared", "flow stored", "flow second", "a separate secret"):
        assert part in fault.cause
    assert [each.id async for each in client.flows.list()] == ["stored"]


async def test_flows_that_are_applied_together_are_checked_against_one_another(client):
    faults = await refused(client, webhook("one", X), webhook("two", GITHUB))
    assert [fault.file for fault in faults] == ["0", "1"]


async def test_two_documents_of_one_flow_are_refused(client):
    (fault,) = await refused(client, flow("one"), flow("one"))
    assert (fault.file, fault.key, fault.code) == ("1", "document.name", "FLOW_DUPLICATE")


async def test_a_callback_counts_like_a_flow(client):
    await client.flows.apply([webhook("stored", "{stripe: {secret: stripe}}", callback=GITHUB)])
    (fault,) = await refused(client, webhook("second", X))
    assert "by `github` in flow stored" in fault.cause


async def test_what_cannot_be_mistaken_may_be_shared(client):
    await client.flows.apply([webhook("a", X), webhook("b", X), webhook("c", "{zoom: {secret: zoom}}")])
    await client.flows.apply([webhook("d", "{github: {secret: git}}"), webhook("e", "{jira: {secret: git}}")])
    await client.flows.apply([webhook("a", X)])


async def test_a_flow_that_gives_the_secret_up_makes_room(client):
    await client.flows.apply([webhook("one", X)])
    await client.flows.apply([webhook("one", "{x: {secret: mine}}"), webhook("two", GITHUB)])
    await client.flows.delete("two")
    await client.flows.apply([webhook("three", X)])
