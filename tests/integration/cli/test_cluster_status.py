"""`flowhook cluster status` and the client's method behind it, against the service of a router."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from support.commands import flowhook

from flowhook.client import AsyncClient, LogServerInfo, ShardCopyInfo, ShardInfo, SnapshotInfo
from flowhook.v1.shard_service_pb2 import (
    GetShardsResponse,
    HandOverResponse,
    LogServer,
    Shard,
    ShardCopy,
    ShardOwner,
    Snapshot,
)
from flowhook.v1.shard_service_pb2_grpc import ShardServiceServicer, add_ShardServiceServicer_to_server

OWNER = ShardOwner(shard=0, epoch=7, router="router-2", address="10.0.0.2:50051", serving=True)
COPIES = [
    ShardCopy(router="router-1", address="10.0.0.1:50051", state="following", position=90, version="1.0"),
    ShardCopy(router="router-2", address="10.0.0.2:50051", state="serving", position=100, version="1.0"),
    ShardCopy(router="router-3", state="following", position=101, silence=Duration(seconds=2, nanos=500_000_000)),
]
REPLICATED = GetShardsResponse(
    shards=[
        Shard(
            shard=0,
            owner=OWNER,
            position=100,
            first_position=41,
            log_bytes=5000,
            max_log_bytes=9000,
            copies=COPIES,
            snapshots=[Snapshot(position=60, size=1234, create_time=Timestamp(seconds=1_700_000_000))],
        )
    ],
    servers=[
        LogServer(name="nats-1", version="2.15.1", current=True, leader=True),
        LogServer(name="nats-2", version="2.15.1", current=False, lag=12, problem="its disk is full"),
    ],
)
EMBEDDED = GetShardsResponse(
    shards=[Shard(shard=0, owner=ShardOwner(epoch=1, router="router-1", address="127.0.0.1:50051", serving=True))]
)


class Shards(ShardServiceServicer):
    def __init__(self):
        self.response = REPLICATED
        self.next_owner = None

    def GetShards(self, request, context):  # noqa: N802
        return self.response

    def HandOver(self, request, context):  # noqa: N802
        self.asked = request.router
        if self.next_owner:
            self.response = GetShardsResponse()
            self.response.CopyFrom(REPLICATED)
            self.response.shards[0].owner.CopyFrom(self.next_owner)
        return HandOverResponse(owner=OWNER, router=request.router or "router-1")


@pytest.fixture
def shards():
    """The service, its address in `address`."""
    service = Shards()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        add_ShardServiceServicer_to_server(service, server)
        service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield service
        server.stop(None).wait()


@pytest.fixture
def silent(monkeypatch):
    """An address at which nobody answers."""
    monkeypatch.setattr("flowhook.client.router_errors.RETRY_SECONDS", 0.1)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def status(*arguments, router):
    return flowhook("cluster", "status", *arguments, FLOWHOOK_ROUTER=router, FLOWHOOK_TOKEN="fhk_x")


def test_json_is_a_line_for_each_shard_and_each_server(shards):
    shard, *servers = status("--json", router=shards.address).rows

    copies, snapshots = shard.pop("copies"), shard.pop("snapshots")
    assert shard == {
        "number": 0,
        "owner": "router-2",
        "address": "10.0.0.2:50051",
        "serving": True,
        "epoch": 7,
        "position": 100,
        "first_position": 41,
        "log_bytes": 5000,
        "max_log_bytes": 9000,
    }
    assert [(copy["router"], copy["state"], copy["position"], copy["silence"]) for copy in copies] == [
        ("router-1", "following", 90, 0),
        ("router-2", "serving", 100, 0),
        ("router-3", "following", 101, 2.5),
    ]
    assert snapshots == [{"position": 60, "size": 1234, "created_at": "2023-11-14T22:13:20.000Z"}]
    assert servers == [
        {"name": "nats-1", "version": "2.15.1", "current": True, "leader": True, "lag": 0, "problem": ""},
        {
            "name": "nats-2",
            "version": "2.15.1",
            "current": False,
            "leader": False,
            "lag": 12,
            "problem": "its disk is full",
        },
    ]


def test_for_people_there_are_three_tables(shards):
    done = status(router=shards.address)

    assert done.code == 0
    shard, copies, servers, *problems = (part.splitlines() for part in done.out.split("\n\n"))
    assert shard[1].split() == ["0", "router-2", "serving", "7", "100", "5000", "60"]
    assert copies[1].split()[:5] == ["0", "router-1", "following", "90", "10"]
    assert servers[2].split() == ["nats-2", "follower", "no", "12", "2.15.1"]
    assert problems == [["nats-2: its disk is full"]]


def test_the_first_router_that_answers_is_asked(shards, silent):
    (shard, *_) = status("--json", router=f"{silent},{shards.address},{silent}").rows
    assert shard["owner"] == "router-2"


def test_when_none_answers_the_error_says_so(silent):
    done = status(router=f"{silent},{silent}")
    assert (done.code, done.out) == (1, "")
    assert silent in done.err


def test_with_the_embedded_storage_there_are_no_standbys_and_no_servers(shards):
    shards.response = EMBEDDED
    (shard,) = status("--json", router=shards.address).rows
    assert (shard["copies"], shard["max_log_bytes"], shard["snapshots"]) == ([], 0, [])
    assert "no servers: the storage is embedded" in status(router=shards.address).out


async def test_clients_return_everything_that_a_router_says(shards):
    async with AsyncClient(shards.address, token="fhk_x") as client:
        found = await client.cluster.shards()

    (shard,) = found.shards
    assert shard == ShardInfo(
        number=0,
        epoch=7,
        owner="router-2",
        address="10.0.0.2:50051",
        serving=True,
        position=100,
        first_position=41,
        log_bytes=5000,
        max_log_bytes=9000,
        copies=shard.copies,
        snapshots=(SnapshotInfo(60, 1234, 1_700_000_000_000),),
    )
    assert shard.snapshots[0].created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert shard.copies[2] == ShardCopyInfo("router-3", "", "following", 101, 2.5, "")
    assert found.servers[1] == LogServerInfo(
        "nats-2", "2.15.1", current=False, leader=False, lag=12, problem="its disk is full"
    )


PROBLEM = "router-1 is not reachable at 10.0.0.1:50051 (edge-1 can't connect: connection refused)"


def test_a_router_that_can_not_be_reached_is_named_with_the_cause(shards):
    shards.response = GetShardsResponse()
    shards.response.CopyFrom(REPLICATED)
    copy = shards.response.shards[0].copies[0]
    copy.problem = PROBLEM
    copy.unreachable_from.add(process="edge-1", cause="connection refused")
    assert f"\n\n{PROBLEM}\n" in status(router=shards.address).out
    (shard, *_) = status("--json", router=shards.address).rows
    assert shard["copies"][0]["problem"] == PROBLEM
    assert shard["copies"][0]["unreachable_from"] == {"edge-1": "connection refused"}
    assert (shard["copies"][1]["problem"], shard["copies"][1]["unreachable_from"]) == ("", {})


def hand_over(*arguments, router):
    return flowhook("cluster", "hand-over", *arguments, FLOWHOOK_ROUTER=router, FLOWHOOK_TOKEN="fhk_x")


def test_a_hand_over_says_who_owns_the_shard_then(shards):
    shards.next_owner = ShardOwner(epoch=8, router="router-3", address="10.0.0.3:50051", serving=True)
    done = hand_over("router-3", router=shards.address)
    assert (done.code, done.out) == (0, "router-3 owns the shard and serves, in place of router-2\n")
    assert shards.asked == "router-3"


def test_a_hand_over_to_another_router_than_was_meant_is_told(shards):
    shards.next_owner = ShardOwner(epoch=8, router="router-3", serving=True)
    done = hand_over(router=shards.address)
    assert done.out.startswith("router-3 owns the shard")
    assert "router-1 was to own it" in done.err


@pytest.mark.parametrize("next_owner", [None, ShardOwner(epoch=8, router="router-1", serving=False)])
def test_a_hand_over_without_a_next_owner_fails_in_the_end(shards, next_owner):
    shards.next_owner = next_owner
    done = hand_over("router-1", "--timeout", "0.1", router=shards.address)
    assert (done.code, done.out) == (1, "")
    assert "no other router serves after 0.1 s" in done.err
