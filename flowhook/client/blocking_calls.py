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


def open_channel(
    target: str, token: str, credentials: grpc.ChannelCredentials | None
) -> tuple[BlockingFollowingChannel, tuple[tuple[str, str | bytes], ...]]:
    """Return a channel to the routers of `target`, and the metadata that each call needs: the token."""
    metadata = (("authorization", f"Bearer {token}"),)

    def open_one(address: str) -> grpc.Channel:
        if credentials is None:
            return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)

    addresses = split_addresses(target) if "," in target else (target,)
    return BlockingFollowingChannel(addresses, open_one, metadata), metadata
