"""Types, sleep and channel of the blocking client; `asyncio_calls` has those of the asyncio client."""

from __future__ import annotations

import time

import grpc

from flowhook.client.blocking_following_channel import BlockingFollowingChannel
from flowhook.client.channel import CHANNEL_OPTIONS
from flowhook.process.router_addresses import split_addresses

RpcError = grpc.RpcError
Credentials = grpc.ChannelCredentials
UnaryMethod = grpc.UnaryUnaryMultiCallable
StreamMethod = grpc.UnaryStreamMultiCallable
sleep = time.sleep


def open_channel(target: str, token: str, credentials: grpc.ChannelCredentials | None) -> BlockingFollowingChannel:
    """Return a channel to the routers of `target` that presents a bearer token; no TLS without `credentials`."""

    def open_one(address: str) -> grpc.Channel:
        if credentials is None:
            return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)

    addresses = split_addresses(target) if "," in target else (target,)
    return BlockingFollowingChannel(addresses, open_one, ("authorization", f"Bearer {token}"))
