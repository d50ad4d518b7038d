"""Counts the work behind executions where it is done: in the gRPC server, SQLite, jq, and the clocks of CPU time."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections import Counter, deque
from contextlib import contextmanager
from unittest import mock

import apsw
import grpc
import grpc.aio
import jq

from flowhook.v1 import runner_service_pb2 as pb

PERIODIC = frozenset({"ReportProcess", "ReportReachability", "WatchFlows", "WatchShards"})
"""Methods that are called, or send messages, as time passes, whether there are events or not."""

PRODUCT = ("admin", "cli", "edge", "flowhook", "operations", "router", "runner")

SYSTEM_CALLS = (
    (time, "thread_time"),
    (time, "thread_time_ns"),
    (time, "process_time"),
    (time, "process_time_ns"),
    (time, "clock_gettime"),
    (time, "clock_gettime_ns"),
    (os, "times"),
    (resource, "getrusage"),
)
"""Clocks of CPU time, for which Python asks the kernel each time; the others are read without a system call."""

_HANDLERS = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}


class WorkCounts:
    """What was counted so far, of what is created within `counting`.

    `idle_transactions` changed no row: they look for something to do as time passes.
    """

    def __init__(self):
        self.work = Counter()
        self.idle_transactions = 0
        self.time_calls = 0
        self._settled = 0
        self._awaited = deque()

    def after(self, executions):
        """Return a future that is done once the router has sent the settlements of so many more executions."""
        reached = asyncio.get_running_loop().create_future()
        self._awaited.append((self._settled + executions, reached))
        return reached

    def settle(self, executions):
        self._settled += executions
        while self._awaited and self._awaited[0][0] <= self._settled:
            self._awaited.popleft()[1].set_result(None)


@contextmanager
def counting():
    """Count the work of routers and workers that are started within the block, in this process."""
    counts, real_server, real_compile = WorkCounts(), grpc.aio.server, jq.compile

    def server(*arguments, interceptors=(), **options):
        return real_server(*arguments, interceptors=[*interceptors, _MessageCounter(counts)], **options)

    def observe(connection):
        _observe_transactions(connection, counts)

    apsw.connection_hooks.append(observe)
    try:
        with (
            mock.patch.object(grpc.aio, "server", server),
            mock.patch.object(jq, "compile", lambda *arguments: _CountedProgram(real_compile(*arguments), counts)),
            _counted_time(counts),
        ):
            yield counts
    finally:
        apsw.connection_hooks.remove(observe)


class _MessageCounter(grpc.aio.ServerInterceptor):
    """Counts calls, and messages where each of them passes: where it becomes bytes, or is made of them."""

    def __init__(self, counts):
        self._counts = counts

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if method in PERIODIC or handler is None:
            return handler
        work = self._counts.work
        work[f"calls of {method}"] += 1

        def read(data):
            work[f"messages to {method}"] += 1
            return data if handler.request_deserializer is None else handler.request_deserializer(data)

        def written(message):
            data = message if handler.response_serializer is None else handler.response_serializer(message)
            work[f"messages from {method}"] += 1
            if method == "Attach":
                response = pb.AttachResponse.FromString(data)
                for part in response.bundle.responses or (response,):
                    self._counts.settle(len(part.settlement.leases))
            return data

        make, name = _HANDLERS[handler.request_streaming, handler.response_streaming]
        return make(getattr(handler, name), read, written)


def _observe_transactions(connection, counts):
    rows, statements = Counter(), 0

    def on_statement(event):
        nonlocal statements
        if event["sql"].startswith("BEGIN"):
            rows.clear()
            statements = 0
        statements += 1

    def on_row(change):
        rows[f"rows of {change.table_name}, {change.op}"] += 1

    def on_commit():
        if rows:
            counts.work["commits"] += 1
            counts.work["statements"] += statements
            counts.work.update(rows)
        else:
            counts.idle_transactions += 1
        return False

    connection.trace_v2(apsw.SQLITE_TRACE_STMT, on_statement)
    connection.preupdate_hook(on_row)
    connection.set_commit_hook(on_commit)


class _CountedProgram:
    def __init__(self, program, counts):
        self._program = program
        self._counts = counts

    def __getattr__(self, name):
        if name.startswith("input"):
            self._counts.work["jq programs"] += 1
        return getattr(self._program, name)


@contextmanager
def _counted_time(counts):
    """Count the calls of `SYSTEM_CALLS` by the product, also by modules that imported the function itself."""

    def counted(function):
        def call(*arguments):
            counts.time_calls += 1
            return function(*arguments)

        return call

    replaced = {getattr(module, name): counted(getattr(module, name)) for module, name in SYSTEM_CALLS}
    patches = [mock.patch.object(module, name, replaced[getattr(module, name)]) for module, name in SYSTEM_CALLS]
    patches += [
        mock.patch.object(module, name, replaced[value])
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").partition(".")[0] in PRODUCT
        for name, value in list(vars(module).items())
        if callable(value) and getattr(value, "__hash__", None) and _is_one_of(value, replaced)
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _is_one_of(value, functions):
    return any(value is function for function in functions)
