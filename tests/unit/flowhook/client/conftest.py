"""A router for the blocking client that a test plays itself, call by call, without a socket or an event loop.

`grpc_testing` does not support asyncio: the asyncio client and the router's servicers are tested over real connections.
"""

from __future__ import annotations

from concurrent.futures import Future
from inspect import isgenerator
from operator import attrgetter
from threading import Thread

import grpc
import grpc_testing
import pytest
from google.protobuf.message_factory import GetMessageClass

from flowhook.client import Client, router_errors
from flowhook.retrying import BackoffPolicy
from flowhook.v1 import (
    cluster_service_pb2,
    execution_service_pb2,
    flow_service_pb2,
    ingest_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    secret_service_pb2,
)
from flowhook.wire import status

MODULES = (
    cluster_service_pb2,
    execution_service_pb2,
    flow_service_pb2,
    ingest_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    secret_service_pb2,
)
SERVICES = {name: service for module in MODULES for name, service in module.DESCRIPTOR.services_by_name.items()}


class PlayedRouter:
    """Has a client call it in a thread, takes the calls in order, and answers each as the test says."""

    def __init__(self, channel, client):
        self._channel = channel
        self.client = client

    def run(self, function):
        """Run a function in a thread, and return its result as a future."""
        future = Future()

        def run():
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - the test gets it from the future
                future.set_exception(error)

        # as a daemon: if a test fails, nobody answers the call that its thread waits for
        Thread(target=run, daemon=True).start()
        return future

    def start(self, name, *arguments, **options):
        """Start a method of the client such as "flows.get", and return its result as a future; iterators as lists."""
        method = attrgetter(name)(self.client)

        def call():
            result = method(*arguments, **options)
            return list(result) if isgenerator(result) else result

        return self.run(call)

    def answer(self, rpc, **fields):
        """Take a call such as "FlowService.GetFlow", answer it with a response, and return its request and metadata."""
        method = _method(rpc)
        metadata, request, call = self._channel.take_unary_unary(method)
        call.send_initial_metadata(())
        call.terminate(GetMessageClass(method.output_type)(**fields), (), grpc.StatusCode.OK, "")
        return request, dict(metadata)

    def fail(self, rpc, error):
        """Take a call, fail it with one of our errors, or with a code as gRPC itself does, and return its request."""
        _, request, call = self._channel.take_unary_unary(_method(rpc))
        call.send_initial_metadata(())
        call.terminate(None, *_failure(error))
        return request

    def stream(self, rpc):
        """Take a call that streams responses; return its request, its metadata and the call."""
        metadata, request, call = self._channel.take_unary_stream(_method(rpc))
        call.send_initial_metadata(())
        return request, dict(metadata), call


def _failure(error):
    """Return trailing metadata, code and details of a failed call."""
    if isinstance(error, grpc.StatusCode):
        return (), error, "details of gRPC"
    sent = status.to_status(error)
    return (("grpc-status-details-bin", sent.SerializeToString()),), status.code_of(error), sent.message


def _method(rpc):
    service, _, name = rpc.partition(".")
    return SERVICES[service].methods_by_name[name]


@pytest.fixture
def router(monkeypatch):
    """A router that the test plays, and a blocking client of it, which does not wait between attempts."""
    channel = grpc_testing.channel(list(SERVICES.values()), grpc_testing.strict_fake_time(0))
    monkeypatch.setattr(grpc, "insecure_channel", lambda _target, options: channel)
    monkeypatch.setattr(router_errors, "CALL", BackoffPolicy(0.0, 0.0))
    monkeypatch.setattr(router_errors, "RETRY_SECONDS", 3600.0)  # a busy machine may let this process stand still
    with Client("router:1", token="fhk_t", timeout=3600) as client:
        yield PlayedRouter(channel, client)
