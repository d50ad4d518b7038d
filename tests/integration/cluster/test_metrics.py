"""What routers of a replicated log say of it in their metrics."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families
from support.patience import PATIENCE
from support.systems import document

from flowhook.process.metric_table import METRICS

# of traces and backups, which are not configured here
ELSEWHERE = ("flowhook_spans_", "flowhook_backup_")


async def text_of(router):
    families = list(text_string_to_metric_families((await router.lifecycle.metrics()).decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "the metrics of the process and those of the owner are one text"
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


async def test_owner_and_standby_say_how_the_log_is(routers):
    owner, standby = routers.start("r1"), None
    await routers.owner()
    async with owner.client() as client, asyncio.timeout(PATIENCE):
        await client.flows.apply([document("demo")])
        standby = routers.start("r2")
        position = owner.metric("flowhook_router_log_position")
        await standby.follows(position)
        for router in (owner, standby):
            await router.shard()  # which looks at the log
            for name in ("r1", "r2"):  # each says it of both, once it has heard the other
                await router.until(
                    lambda each, name=name: each.metric("flowhook_standby_lag_records", router=name) == 0
                )
            assert router.metric("flowhook_router_log_bytes") > 0
            ups = [
                sample.value
                for family in router.registry.collect()
                if family.name == "flowhook_nats_server_up"
                for sample in family.samples
            ]
            assert ups
            assert set(ups) == {1.0}
        names = {each.name for each in METRICS.values() if "router" in each.roles}
        assert {name for name in await text_of(owner) if name.startswith(("flowhook_", "rpc_"))} == {
            name for name in names if not name.startswith(ELSEWHERE)
        }
        assert "flowhook_queue_depth" not in await text_of(standby)
        assert (owner.metric("flowhook_router_owner"), standby.metric("flowhook_router_owner")) == (1, 0)


async def test_the_age_of_a_snapshot_is_that_of_the_newest_one(routers):
    owner = routers.start("r1", snapshot_log_bytes=1, snapshot_seconds=1)
    await routers.owner()
    async with owner.client() as client, asyncio.timeout(PATIENCE):
        await client.flows.apply([document("demo")])
        while owner.metric("flowhook_snapshot_age_seconds") is None:
            await owner.shard()
        assert 0 <= owner.metric("flowhook_snapshot_age_seconds") < PATIENCE
