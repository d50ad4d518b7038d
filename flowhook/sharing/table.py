"""The limits that principals share, of all processes, as data: `docs/limits.md` shows them.

Each process has its limits as arguments, so that a test can set others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowhook.limits import MAX_UPLOAD_BYTES, MAX_UPLOADS, MIB
from flowhook.sharing.limit import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLimits:
    """The limits of a router. What they reserve is for edges and runners, without which nothing is received or run."""

    # from their authorization until their end
    calls: Limit = Limit("calls in progress", "token", 20_000, "TOO_MANY_CALLS", "CALLS_FULL", reserved=10_000)
    # calls of methods that stream responses. A stream that its caller doesn't read holds up to a chunk of a body in
    # memory, and ends only with its connection.
    streams: Limit = Limit(
        "calls that stream responses", "token", 4000, "TOO_MANY_STREAMS", "STREAMS_FULL", reserved=3000, retry_after=10
    )
    anonymous_streams: Limit = Limit(
        "health watches without a token", "address", 100, "TOO_MANY_STREAMS", "STREAMS_FULL", retry_after=10
    )
    # watches of executions, each with a queue of changes
    execution_watches: Limit = Limit(
        "watches of executions", "token", 100, "TOO_MANY_WATCHERS", "WATCHERS_FULL", retry_after=10
    )
    # of InvokeFlow
    replies_of_flow: Limit = Limit(
        "bytes of calls that wait for replies", "flow", 256 * MIB, "TOO_MANY_WAITERS", "WAITERS_FULL", retry_after=1
    )
    # the same by caller: an edge calls for all senders
    replies_of_token: Limit = Limit(
        "bytes of calls that wait for replies",
        "token",
        256 * MIB,
        "TOO_MANY_WAITERS",
        "WAITERS_FULL",
        reserved=128 * MIB,
        retry_after=1,
    )
    # bodies being read. Each holds a chunk of up to 256 KiB in memory.
    downloads: Limit = Limit("bodies being read", "token", 512, "TOO_MANY_READERS", "READERS_FULL", reserved=384)
    # threads that read flows, secrets and what ingestion needs, and operators' logs. Calls wait for them.
    reads: Limit = Limit(
        "reads of flows, secrets and logs",
        "token",
        5,
        "TOO_MANY_READS",
        "STORAGE_UNAVAILABLE",
        parts=2,
        reserved=1,
        waiting=1000,
        retry_after=1,
    )
    # threads that read executions for operators. Calls wait for them.
    queries: Limit = Limit(
        "queries of executions",
        "token",
        4,
        "TOO_MANY_READS",
        "STORAGE_UNAVAILABLE",
        parts=2,
        waiting=1000,
        retry_after=1,
    )
    # series of metrics that processes report
    report_series: Limit = Limit("series of metrics in reports", "token", 100_000, "METRICS_DROPPED", reserved=75_000)
    # large reports of metrics being checked. Calls wait for that.
    reports: Limit = Limit(
        "large reports being checked",
        "token",
        3,
        "TOO_MANY_REPORTS",
        "REPORTS_FULL",
        reserved=1,
        waiting=400,
        retry_after=2,
    )
    # refused requests that edges verify again for operators. Calls wait for that.
    verifications: Limit = Limit(
        "refused requests being verified again",
        "token",
        4,
        "TOO_MANY_VERIFICATIONS",
        "VERIFICATIONS_FULL",
        parts=2,
        waiting=1000,
    )
    # within it, flows and the addresses of senders have shares of their own.
    uploads: Limit = Limit(
        "bodies being uploaded",
        "token",
        2 * MAX_UPLOADS,
        "UPLOADS_FULL",
        reserved=MAX_UPLOADS * 3 // 2,
        essential_parts=1,
    )
    # bodies being uploaded, or uploaded and not yet named by an event, by their declared sizes
    upload_bytes: Limit = Limit(
        "bytes of uploaded bodies without their event",
        "token",
        MAX_UPLOAD_BYTES,
        "UPLOADS_FULL",
        reserved=MAX_UPLOAD_BYTES // 2,
        essential_parts=1,
    )
    # time in which a new connection has to speak gRPC, and TLS if that is configured. Each holds a file descriptor,
    # no matter who opened it.
    handshake_seconds: float = 10.0
    # time in which a caller has to read enough of a stream for the next message to be sent
    send_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """The limits of an edge. Its principals are flows and senders' addresses.

    Trusted proxies whose requests don't say who sent them are not limited by shares: they stand for many senders.
    """

    replies_of_flow: Limit = Limit(
        "requests that wait for replies", "flow", 2000, "TOO_MANY_HELD", parts=2, retry_after=1
    )
    # the same by sender. The share is half of a flow's, so that no sender can take all places of a flow.
    replies_of_sender: Limit = Limit(
        "requests that wait for replies", "address", 2000, "TOO_MANY_HELD", essential_parts=1, retry_after=1
    )
    # requests for later replies, at the URLs that senders got
    fetches: Limit = Limit(
        "requests for later replies", "address", 2000, "TOO_MANY_HELD", essential_parts=1, retry_after=1
    )
    # incomplete heads and bodies in memory; beyond it, large or slow requests are refused with 503
    received_bytes: Limit = Limit(
        "bytes of requests being received", "address", 512 * MIB, "OVERLOADED", essential_parts=1, retry_after=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerLimits:
    """The limits of each process of a runner that executes flows."""

    # sessions with brokers, each of which has a connection and holds a message
    subscriptions: Limit = Limit(
        "subscriptions to brokers", "flow", 64, "TOO_MANY_SUBSCRIPTIONS", "SUBSCRIPTIONS_FULL", parts=2
    )
    # connections that messages are published over, and gRPC methods called, of the flows that opened them. One that no
    # call uses gives way.
    connections: Limit = Limit(
        "connections to brokers and gRPC servers", "flow", 64, "TOO_MANY_CONNECTIONS", "CONNECTIONS_FULL", parts=2
    )
    # processes of `run` and of `call: mcp` that calls wait for
    processes: Limit = Limit(
        "processes of flows", "flow", 16, "TOO_MANY_PROCESSES", "PROCESSES_FULL", parts=2, waiting=10_000
    )
    # those that no call waits for
    background: Limit = Limit(
        "processes of flows in the background", "flow", 64, "TOO_MANY_PROCESSES", "PROCESSES_FULL", parts=2
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLimits:
    """The limits of an admin process. Its principals are tokens, and addresses of those who have not shown one yet."""

    # bodies, attachments and exports that are being sent
    downloads: Limit = Limit("downloads", "token", 32, "TOO_MANY_DOWNLOADS", "DOWNLOADS_FULL")
    # bodies of requests that have no response yet. Before a token is known, they count by address.
    request_bytes: Limit = Limit(
        "bytes of requests being received", "token", 64 * MIB, "TOO_MANY_REQUESTS", "REQUESTS_FULL", retry_after=1
    )
    # responses that their clients have not received yet; the connection of one that exceeds it ends
    response_bytes: Limit = Limit(
        "bytes of responses being sent", "token", 256 * MIB, "TOO_MANY_RESPONSES", "RESPONSES_FULL"
    )
    # pages that update themselves
    live_lists: Limit = Limit("live lists", "token", 64, "TOO_MANY_STREAMS", "STREAMS_FULL")
    # what processes and threads compute: jq conditions, traces, attachments, comparisons
    computations: Limit = Limit(
        "conditions, traces, attachments and comparisons being computed",
        "token",
        2,
        "TOO_MANY_COMPUTATIONS",
        "COMPUTATIONS_FULL",
        parts=2,
        waiting=32,
    )
    # tokens that the router is asked about, because they are used for the first time
    logins: Limit = Limit("new tokens being checked", "address", 8, "TOO_MANY_LOGINS", waiting=64, retry_after=6)
    # time in which a client has to receive a response, or a piece of a download
    send_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadLimits:
    """The limits of each pool of processes that do what may take long: parsing large bodies, conditions, traces."""

    # processes at a time, for which calls wait. A flow has at most one.
    processes: Limit = Limit("processes of one kind", "flow", 2, "OVERLOADED", parts=2, waiting=1998, retry_after=1)
    # arguments of the calls that run or wait
    waiting_bytes: Limit = Limit("bytes that wait for these processes", "flow", 256 * MIB, "OVERLOADED", retry_after=1)

    @classmethod
    def with_waiting(cls, calls: int) -> OffloadLimits:
        """Return limits that let so many calls of one flow run or wait, and twice as many of all."""
        return cls(processes=replace(cls().processes, waiting=2 * calls - 2))
