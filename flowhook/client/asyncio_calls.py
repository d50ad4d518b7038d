"""Types, sleep and channel of the asyncio client; `blocking_calls` has those of the blocking client."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from flowhook.client import channel

RpcError = grpc.RpcError
Credentials = grpc.ChannelCredentials
UnaryMethod = grpc.aio.UnaryUnaryMultiCallable
StreamMethod = grpc.aio.UnaryStreamMultiCallable
open_channel = channel.connect
sleep = asyncio.sleep
