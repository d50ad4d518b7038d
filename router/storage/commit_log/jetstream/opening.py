"""Opens the replicated log on JetStream: connects, checks servers and streams, creates what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from router.storage.commit_log.heartbeat_seals import HeartbeatSeals
from router.storage.commit_log.interface import ReplicatedLog
from router.storage.commit_log.jetstream.connection import LogConnection
from router.storage.commit_log.jetstream.facts import JetStreamFacts
from router.storage.commit_log.jetstream.heartbeats import NatsHeartbeats
from router.storage.commit_log.jetstream.log import BEHIND_SECONDS, JetStreamLog
from router.storage.commit_log.jetstream.objects import JetStreamObjects
from router.storage.commit_log.jetstream.servers import check_sync, check_version
from router.storage.commit_log.jetstream.streams import (
    log_stream_of,
    open_buckets,
    open_log_stream,
    recreate_log_stream,
)
from router.storage.commit_log.jetstream.url import LogUrl, parse_url
from router.storage.commit_log.refusals import Refusals
from router.storage.commit_log.seals import (
    ClusterKeys,
    FactSeals,
    ObjectSeals,
    RecordSeals,
)

TIMEOUT_SECONDS: Final = 30.0


def connect(
    url: str,
    keys: ClusterKeys,
    *,
    router: str,
    create: bool = True,
    timeout: float = TIMEOUT_SECONDS,
    behind_seconds: float = BEHIND_SECONDS,
    creds_file: Path | None = None,
    ca_file: Path | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> ReplicatedLog:
    """Connect to the servers of the log, check them, and create the streams that are missing. Blocks.

    Args:
        url: `nats://` or `tls://`; see `url`.
        keys: what routers store and send is sealed with.
        router: name of this router in the cluster.
        create: whether to create the stream of the log if there is none. False: for what only reads it, which need not
            know whether servers sync each write.
        timeout: how long to wait for a connection, and for a quorum (s, each).
        behind_seconds: how long the log may lack records that it had acknowledged before it counts as replaced (s).
        creds_file: credentials file of NATS (JWT and key).
        ca_file: certificates of the authorities that sign the servers'; with it, or with `tls://`, connections are TLS.
        on_wait: called with what is waited for, on another thread.

    Raises:
        InvalidError: the URL, the credentials, or the servers' configuration are not as they must be
            (`LOG_URL_INVALID`, `LOG_CREDENTIALS`, `LOG_SERVER_OUTDATED`, `LOG_JETSTREAM_DISABLED`, `LOG_REPLICAS`,
            `LOG_STORAGE`, `LOG_CONFIGURATION`, `LOG_NOT_SYNCED`); the message says what to write.
        UnavailableError: no server or no quorum within `timeout` (`LOG_UNAVAILABLE`); no log (`LOG_MISSING`).
    """
    parsed = parse_url(url)
    connection = _open(parsed, router, timeout, creds_file=creds_file, ca_file=ca_file, on_wait=on_wait)
    try:
        info = connection.call(open_log_stream(connection, parsed, create=create, seconds=timeout))
        if create and not parsed.trust_fsync:
            check_sync(parsed, info, connection.server[0])
        objects, facts = connection.call(open_buckets(connection, parsed, seconds=timeout))
        refusals = Refusals()
        identity = log_stream_of(info).identity
        log = JetStreamLog(
            connection,
            parsed,
            info,
            seals=RecordSeals(keys, identity),
            refusals=refusals,
            behind_seconds=behind_seconds,
        )
        heartbeats = NatsHeartbeats(
            connection,
            subject=f"{parsed.prefix.lower()}.router",
            router=router,
            seals=HeartbeatSeals(keys.derive("heartbeats", identity), router),
            refusals=refusals,
        )
        connection.call(log.start())
        connection.call(heartbeats.start())
    except BaseException:
        connection.close()
        raise
    object_seals = ObjectSeals(keys.derive("objects", parsed.prefix))
    fact_seals = FactSeals(keys.derive("facts", parsed.prefix))
    return ReplicatedLog(
        log=log,
        heartbeats=heartbeats,
        objects=JetStreamObjects(connection, objects, object_seals, refusals),
        facts=JetStreamFacts(connection, facts, fact_seals, refusals),
        refusals=refusals,
        close=connection.close,
    )


def rebuild_log(
    url: str, *, timeout: float = TIMEOUT_SECONDS, creds_file: Path | None = None, ca_file: Path | None = None
) -> str:
    """Delete the log, if there is one, and create an empty one; return its identity. Objects and facts stay. Blocks.

    Routers that have the former log open get LogReplacedError. Raises as `connect` does.
    """
    parsed = parse_url(url)
    connection = _open(parsed, "rebuild-log", timeout, creds_file=creds_file, ca_file=ca_file)
    try:
        return log_stream_of(connection.call(recreate_log_stream(connection, parsed))).identity
    finally:
        connection.close()


def _open(url: LogUrl, name: str, timeout: float, **options: Any) -> LogConnection:
    connection = LogConnection(url, name=f"flowhook {name}", **options)
    try:
        connection.open(timeout)
        server, version = connection.server
        check_version(version, server)
    except BaseException:
        connection.close()
        raise
    return connection
