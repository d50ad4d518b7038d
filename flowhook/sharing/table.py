"""The limits that principals share, of all processes, as data: `docs/limits.md` shows them.

Each process has its limits as arguments, so that a test can set others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowhook.limits import MAX_UPLOAD_BYTES, MAX_UPLOADS, MIB
from flowhook.sharing.limit import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLimits:
    """The limits of a router. What they reserve is for edges and runners, without which nothing is received or run.

    Attributes:
        calls: calls in progress, from their authorization until their end.
        streams: calls of methods that stream responses. A stream that its caller doesn't read holds up to a chunk of a
            body in memory, and ends only with its connection.
        anonymous_streams: health watches of callers without a token.
        execution_watches: watches of executions, each with a queue of changes.
        replies_of_flow: memory of InvokeFlow calls that wait for the reply of a flow.
        replies_of_token: the same by caller: an edge calls for all senders.
        downloads: bodies being read. Each holds a chunk of up to 256 KiB in memory.
        reads: threads that read flows, secrets and what ingestion needs, and operators' logs. Calls wait for them.
        queries: threads that read executions for operators. Calls wait for them.
        report_series: series of metrics that processes report.
        reports: large reports of metrics being checked. Calls wait for that.
        verifications: refused requests that edges verify again for operators. Calls wait for that.
        uploads: bodies being uploaded. Within it, flows and the addresses of senders have shares of their own.
        upload_bytes: bodies being uploaded, or uploaded and not yet named by an event, by their declared sizes.
        handshake_seconds: time in which a new connection has to speak gRPC, and TLS if that is configured. Each holds a
            file descriptor, no matter who opened it.
        send_seconds: time in which a caller has to read enough of a stream for the next message to be sent.
    """

    calls: Limit = Limit(
        name="router.calls",
        counts="calls in progress",
        per="token",
        total=20_000,
        reserved=10_000,
        reason="TOO_MANY_CALLS",
        full="CALLS_FULL",
    )
    streams: Limit = Limit(
        name="router.streams",
        counts="calls that stream responses",
        per="token",
        total=4000,
        reserved=3000,
        reason="TOO_MANY_STREAMS",
        full="STREAMS_FULL",
        retry_after=10,
    )
    anonymous_streams: Limit = Limit(
        name="router.anonymous_streams",
        counts="health watches without a token",
        per="address",
        total=100,
        reason="TOO_MANY_STREAMS",
        full="STREAMS_FULL",
        retry_after=10,
    )
    execution_watches: Limit = Limit(
        name="router.execution_watches",
        counts="watches of executions",
        per="token",
        total=100,
        reason="TOO_MANY_WATCHERS",
        full="WATCHERS_FULL",
        retry_after=10,
    )
    replies_of_flow: Limit = Limit(
        name="router.replies_of_flow",
        counts="bytes of calls that wait for replies",
        per="flow",
        total=256 * MIB,
        reason="TOO_MANY_WAITERS",
        full="WAITERS_FULL",
        retry_after=1,
    )
    replies_of_token: Limit = Limit(
        name="router.replies_of_token",
        counts="bytes of calls that wait for replies",
        per="token",
        total=256 * MIB,
        reserved=128 * MIB,
        reason="TOO_MANY_WAITERS",
        full="WAITERS_FULL",
        retry_after=1,
    )
    downloads: Limit = Limit(
        name="router.downloads",
        counts="bodies being read",
        per="token",
        total=512,
        reserved=384,
        reason="TOO_MANY_READERS",
        full="READERS_FULL",
    )
    reads: Limit = Limit(
        name="router.reads",
        counts="reads of flows, secrets and logs",
        per="token",
        total=5,
        parts=2,
        reserved=1,
        waiting=1000,
        reason="TOO_MANY_READS",
        full="STORAGE_UNAVAILABLE",
        retry_after=1,
    )
    queries: Limit = Limit(
        name="router.queries",
        counts="queries of executions",
        per="token",
        total=4,
        parts=2,
        waiting=1000,
        reason="TOO_MANY_READS",
        full="STORAGE_UNAVAILABLE",
        retry_after=1,
    )
    report_series: Limit = Limit(
        name="router.report_series",
        counts="series of metrics in reports",
        per="token",
        total=100_000,
        reserved=75_000,
        reason="METRICS_DROPPED",
        full="METRICS_DROPPED",
    )
    reports: Limit = Limit(
        name="router.reports",
        counts="large reports being checked",
        per="token",
        total=3,
        reserved=1,
        waiting=400,
        reason="TOO_MANY_REPORTS",
        full="REPORTS_FULL",
        retry_after=2,
    )
    verifications: Limit = Limit(
        name="router.verifications",
        counts="refused requests being verified again",
        per="token",
        total=4,
        parts=2,
        waiting=1000,
        reason="TOO_MANY_VERIFICATIONS",
        full="VERIFICATIONS_FULL",
    )
    uploads: Limit = Limit(
        name="router.uploads",
        counts="bodies being uploaded",
        per="token",
        total=2 * MAX_UPLOADS,
        reserved=MAX_UPLOADS * 3 // 2,
        essential_parts=1,
        reason="UPLOADS_FULL",
        full="UPLOADS_FULL",
    )
    upload_bytes: Limit = Limit(
        name="router.upload_bytes",
        counts="bytes of uploaded bodies without their event",
        per="token",
        total=MAX_UPLOAD_BYTES,
        reserved=MAX_UPLOAD_BYTES // 2,
        essential_parts=1,
        reason="UPLOADS_FULL",
        full="UPLOADS_FULL",
    )
    handshake_seconds: float = 10.0
    send_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """The limits of an edge. Its principals are flows and senders' addresses.

    Trusted proxies whose requests don't say who sent them are not limited by shares: they stand for many senders.

    Attributes:
        replies_of_flow: requests that wait for the reply of a flow.
        replies_of_sender: the same by sender.
        fetches: requests for later replies, at the URLs that senders got.
        received_bytes: incomplete heads and bodies in memory; beyond it, large or slow requests are refused with 503.
    """

    replies_of_flow: Limit = Limit(
        name="edge.replies_of_flow",
        counts="requests that wait for replies",
        per="flow",
        total=2000,
        parts=2,
        reason="TOO_MANY_HELD",
        full="TOO_MANY_HELD",
        retry_after=1,
    )
    replies_of_sender: Limit = Limit(
        name="edge.replies_of_sender",
        counts="requests that wait for replies",
        per="address",
        total=2000,
        parts=2,
        essential_parts=1,
        reason="TOO_MANY_HELD",
        full="TOO_MANY_HELD",
        retry_after=1,
    )
    fetches: Limit = Limit(
        name="edge.fetches",
        counts="requests for later replies",
        per="address",
        total=2000,
        essential_parts=1,
        reason="TOO_MANY_HELD",
        full="TOO_MANY_HELD",
        retry_after=1,
    )
    received_bytes: Limit = Limit(
        name="edge.received_bytes",
        counts="bytes of requests being received",
        per="address",
        total=512 * MIB,
        essential_parts=1,
        reason="OVERLOADED",
        full="OVERLOADED",
        retry_after=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLimits:
    """The limits of an admin process. Its principals are tokens, and addresses of those who have not shown one yet.

    Attributes:
        downloads: bodies, attachments and exports that are being sent.
        request_bytes: bodies of requests that have no response yet. Before a token is known, they count by address.
        response_bytes: responses that their clients have not received yet; the connection of one that exceeds it ends.
        live_lists: pages that update themselves.
        computations: what processes and threads compute: jq conditions, traces, attachments, comparisons.
        logins: tokens that the router is asked about, because they are used for the first time.
        report_series: series of metrics that processes report.
        reports: large reports of metrics being checked. Calls wait for that.
        verifications: refused requests that edges verify again for operators. Calls wait for that.
        uploads: bodies being uploaded. Within it, flows and the addresses of senders have shares of their own.
        upload_bytes: bodies being uploaded, or uploaded and not yet named by an event, by their declared sizes.
        send_seconds: time in which a client has to receive a response, or a piece of a download.
    """

    downloads: Limit = Limit(
        name="admin.downloads",
        counts="downloads",
        per="token",
        total=32,
        reason="TOO_MANY_DOWNLOADS",
        full="DOWNLOADS_FULL",
    )
    request_bytes: Limit = Limit(
        name="admin.request_bytes",
        counts="bytes of requests being received",
        per="token",
        total=64 * MIB,
        reason="TOO_MANY_REQUESTS",
        full="REQUESTS_FULL",
        retry_after=1,
    )
    response_bytes: Limit = Limit(
        name="admin.response_bytes",
        counts="bytes of responses being sent",
        per="token",
        total=256 * MIB,
        reason="TOO_MANY_RESPONSES",
        full="RESPONSES_FULL",
    )
    live_lists: Limit = Limit(
        name="admin.live_lists",
        counts="live lists",
        per="token",
        total=64,
        reason="TOO_MANY_STREAMS",
        full="STREAMS_FULL",
    )
    computations: Limit = Limit(
        name="admin.computations",
        counts="conditions, traces, attachments and comparisons being computed",
        per="token",
        total=2,
        parts=2,
        waiting=32,
        reason="TOO_MANY_COMPUTATIONS",
        full="COMPUTATIONS_FULL",
    )
    logins: Limit = Limit(
        name="admin.logins",
        counts="new tokens being checked",
        per="address",
        total=8,
        waiting=64,
        reason="TOO_MANY_LOGINS",
        full="TOO_MANY_LOGINS",
        retry_after=6,
    )
    send_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadLimits:
    """The limits of each pool of processes that do what may take long: parsing large bodies, conditions, traces.

    Attributes:
        processes: processes at a time, for which calls wait. A flow has at most one.
        waiting_bytes: arguments of the calls that run or wait.
    """

    processes: Limit = Limit(
        name="offload.processes",
        counts="processes of one kind",
        per="flow",
        total=2,
        parts=2,
        waiting=1998,
        reason="OVERLOADED",
        full="OVERLOADED",
        retry_after=1,
    )
    waiting_bytes: Limit = Limit(
        name="offload.waiting_bytes",
        counts="bytes that wait for these processes",
        per="flow",
        total=256 * MIB,
        reason="OVERLOADED",
        full="OVERLOADED",
        retry_after=1,
    )

    @classmethod
    def with_waiting(cls, calls: int) -> OffloadLimits:
        """Return limits that let so many calls of one flow run or wait, and twice as many of all."""
        return cls(processes=replace(cls().processes, waiting=2 * calls - 2))
