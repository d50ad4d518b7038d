"""What an operator changes is in force, at the edge too, within a second; what is refused changes nothing."""

from __future__ import annotations

import pytest
from support.patience import seen_within
from support.systems import document

from flowhook.model.replays import ReplayOptions

pytestmark = pytest.mark.e2e


def keyed(system, flow, key):
    async def status():
        return (await system.send(flow, {}, headers={"X-Api-Key": key})).status

    return status


async def test_a_changed_flow_is_in_force_and_what_was_accepted_stays_on_its_revision(system):
    def revision(number):
        return document(
            "changing",
            webhook=f"{{auth: none, respond: {{headers: {{X-Is: '{number}'}}}}}}",
            do=f"- a: {{set: {{is: {number}}}}}",
        )

    await system.apply(revision(1))
    await system.client.flows.pause("changing")
    old = await system.send("changing", {})
    assert old.headers["X-Is"] == "1"
    await system.apply(revision(2))

    async def changed():
        return (await system.send("changing", {})).headers["X-Is"] == "2"

    await seen_within(1, changed)
    new = await system.send("changing", {})
    await system.client.flows.resume("changing")
    assert await system.completed(old.id) == {"is": 1}
    assert await system.completed(new.id) == {"is": 2}
    pinned = await system.client.executions.replay(old.id)
    latest = await system.client.executions.replay(old.id, ReplayOptions(latest=True))
    assert await system.completed(pinned.id) == {"is": 1}
    assert await system.completed(latest.id) == {"is": 2}


async def test_a_new_flow_is_found_though_it_was_requested_before(system):
    assert (await system.send("newcomer", {})).status == 404
    await system.apply(document("newcomer"))

    async def found():
        return (await system.send("newcomer", {})).status == 202

    await seen_within(1, found)


async def test_a_changed_and_a_deleted_secret_are_in_force(system):
    await system.apply(document("keyed", webhook="{auth: {api_key: {header: X-Api-Key, secret: changing-key}}}"))
    old, new = keyed(system, "keyed", "old"), keyed(system, "keyed", "new")
    assert await old() == 401  # it is not set yet: closed
    await system.secrets(changing_key="old")

    async def old_is(status):
        return await old() == status

    await seen_within(1, lambda: old_is(202))
    assert await new() == 401
    await system.secrets(changing_key="new")
    await seen_within(1, lambda: old_is(401))
    assert await new() == 202
    await system.client.secrets.delete("changing-key")

    async def new_is_refused():
        return await new() == 401

    await seen_within(1, new_is_refused)


async def test_while_secrets_rotate_both_are_taken_and_the_execution_reports_which(system):
    auth = "{api_key: {header: X-Api-Key, secrets: [rotating-new, rotating-old]}}"
    await system.secrets(rotating_new="n3w", rotating_old="0ld")
    await system.apply(document("rotating", webhook=f"{{auth: {auth}}}"))
    for key, name in (("n3w", "rotating-new"), ("0ld", "rotating-old")):
        answer = await system.send("rotating", {}, headers={"X-Api-Key": key})
        assert (await system.ended(answer.id)).event.principal.secret == name


GOOD = document("all-or-nothing")
BAD = """\
document: {dsl: 1.0.3, namespace: default, name: bad, version: 1.0.0}
webhook: {auth: none}
do:
  - peek: {set: {path: '${ env.PATH }'}}
  - look: {set: {path: '${ $ENV.PATH }'}}
  - jump: {set: {a: 1}, then: nowhere}
"""


async def test_a_directory_with_a_bad_file_changes_nothing_and_every_fault_is_named(system, tmp_path):
    (tmp_path / "good.yaml").write_bytes(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    before = [(flow.id, flow.revision) async for flow in system.client.flows.list()]
    for options in ((), ("--dry-run",)):
        result = await system.flowhook("apply", "-f", tmp_path, *options)
        assert (result.code, result.out) == (1, "")
        lines = result.err.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith(f"{tmp_path}/bad.yaml:4: do[0].peek.set.path: ")
        assert "env" in lines[0]
        assert lines[1].startswith(f"{tmp_path}/bad.yaml:5: do[1].look.set.path: ")
        assert "$ENV" in lines[1]
        assert lines[2].startswith(f"{tmp_path}/bad.yaml:6: do[2].jump.then: ")
        assert "nowhere" in lines[2]
    assert [(flow.id, flow.revision) async for flow in system.client.flows.list()] == before
    assert (await system.send("all-or-nothing", {})).status == 404


async def test_a_component_that_no_runner_has_is_refused(system, tmp_path):
    path = tmp_path / "unknown.yaml"
    path.write_bytes(document("unknown-function", do="- ask: {call: acme.notify, with: {a: 1}}"))
    result = await system.flowhook("apply", "-f", path)
    assert result.code == 1
    assert f"{path}:4: do[0].ask.call: " in result.err
