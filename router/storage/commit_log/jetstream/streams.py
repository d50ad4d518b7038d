"""Streams and buckets of the log: their configuration, creation, and check; and reading many of their messages."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import nats.errors
from nats.js.api import (
    DiscardPolicy,
    Header,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError

from flowhook.errors import InvalidError, UnavailableError
from router.storage.commit_log.jetstream.connection import OPERATION_SECONDS, LogConnection
from router.storage.commit_log.jetstream.url import LogUrl

DEFAULT_MAX_BYTES: Final = 2 << 30
DUPLICATE_WINDOW_SECONDS: Final = 120.0
JETSTREAM_DISABLED: Final = (10039, 10076)  # not enabled: for the account, at all
NO_SUITABLE_PEERS: Final = 10005
REPLICAS_UNSUPPORTED: Final = 10074  # replicas > 1 are not supported in non-clustered mode
STORAGE_TOO_SMALL: Final = (10023, 10047)
STREAM_EXISTS: Final = 10058


@dataclass(frozen=True, slots=True)
class LogStream:
    """One life of the stream of a log."""

    name: str  # its name, which a recreated stream has too
    # where its records are published. It contains a random part, so that nobody who knows an earlier stream of
    # that name can ever append to this one
    subject: str
    identity: str  # the random part and the time of its creation
    max_bytes: int | None  # most bytes that it may have; None: unlimited


def log_stream_of(info: StreamInfo) -> LogStream:
    config = info.config
    subject = (config.subjects or [""])[0]
    created = info.created.isoformat() if info.created else ""
    limit = config.max_bytes if config.max_bytes and config.max_bytes > 0 else None
    return LogStream(str(config.name), subject, f"{subject.rpartition('.')[2]}@{created}", limit)


def log_name(url: LogUrl) -> str:
    return f"{url.prefix}_LOG_0"


async def open_log_stream(connection: LogConnection, url: LogUrl, *, create: bool, seconds: float) -> StreamInfo:
    """Find or create the stream of the log, waiting `seconds` for a quorum.

    Raises:
        InvalidError: it can't be had as it should be (`LOG_CONFIGURATION`, `LOG_REPLICAS`, `LOG_JETSTREAM_DISABLED`).
        UnavailableError: there is no quorum (`LOG_UNAVAILABLE`), or no such stream without `create` (`LOG_MISSING`).
    """
    name = log_name(url)

    async def find_or_create() -> StreamInfo:
        try:
            return await connection.jetstream.stream_info(name)
        except NotFoundError:
            if not create:
                raise
        try:
            await connection.jetstream.add_stream(_log_config(url, name))
        except BadRequestError as error:
            if error.err_code != STREAM_EXISTS:  # another router creates it
                raise
        return await _created(connection, name)

    try:
        info = await _attempt(connection, url, find_or_create, seconds)
    except NotFoundError:
        raise UnavailableError(f"the servers of the log have no stream {name}", reason="LOG_MISSING") from None
    _check(info, url, _expected(_log_config(url, name), url), rf"{re.escape(_subjects(url))}\.[0-9a-f]{{16}}")
    return info


async def open_buckets(connection: LogConnection, url: LogUrl, *, seconds: float) -> tuple[str, str]:
    """Find or create the buckets of objects and of facts, as `open_log_stream` does; return their names."""
    objects, facts = f"{url.prefix}_OBJECTS", f"{url.prefix}_FACTS"
    kept = ObjectStoreConfig(bucket=objects, storage=StorageType.FILE, replicas=url.replicas)
    agreed = KeyValueConfig(bucket=facts, history=1, storage=StorageType.FILE, replicas=url.replicas)
    for stream, create in (
        (f"OBJ_{objects}", lambda: connection.jetstream.create_object_store(objects, config=kept)),
        (f"KV_{facts}", lambda: connection.jetstream.create_key_value(agreed)),
    ):
        await _open_bucket(connection, url, stream, create, seconds)
    return objects, facts


async def _open_bucket(
    connection: LogConnection, url: LogUrl, stream: str, create: Callable[[], Awaitable[object]], seconds: float
) -> None:
    async def find_or_create() -> StreamInfo:
        try:
            return await connection.jetstream.stream_info(stream)
        except NotFoundError:
            await create()
            return await _created(connection, stream)

    _check(await _attempt(connection, url, find_or_create, seconds), url, {"num_replicas": url.replicas})


async def _created(connection: LogConnection, name: str) -> StreamInfo:
    """Return the information of a stream that exists, or is about to: what creates it does not name its servers."""
    try:
        return await connection.jetstream.stream_info(name)
    except NotFoundError as error:
        raise ServiceUnavailableError(description=error.description) from error  # look again


async def recreate_log_stream(connection: LogConnection, url: LogUrl) -> StreamInfo:
    """Delete the stream of the log, if there is one, and create it anew with another identity."""
    config = _log_config(url, log_name(url))  # the same for each attempt
    with contextlib.suppress(NotFoundError):
        await connection.persist(lambda: connection.jetstream.delete_stream(log_name(url)))
    return await _attempt(connection, url, lambda: connection.jetstream.add_stream(config), OPERATION_SECONDS)


def _subjects(url: LogUrl) -> str:
    return f"{url.prefix.lower()}.log.0"


def _log_config(url: LogUrl, name: str) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=[f"{_subjects(url)}.{secrets.token_hex(8)}"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        num_replicas=url.replicas,
        max_bytes=url.max_bytes or DEFAULT_MAX_BYTES,
        max_msgs=-1,
        max_age=0,
        max_consumers=-1,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        deny_delete=True,
        allow_direct=True,
    )


def _expected(config: StreamConfig, url: LogUrl) -> dict[str, Any]:
    fields = (
        *("retention", "storage", "discard", "num_replicas", "max_msgs", "max_msg_size", "max_msgs_per_subject"),
        *("max_age", "duplicate_window", "deny_delete", "deny_purge", "allow_direct", "sealed", "no_ack"),
        *("mirror", "sources", "republish", "subject_transform"),
    )
    expected = {field: getattr(config, field) for field in fields}
    return expected | ({"max_bytes": url.max_bytes} if url.max_bytes else {})


def _check(info: StreamInfo, url: LogUrl, expected: Mapping[str, Any], subject: str = "") -> None:
    config = info.config
    wrong = [
        f"{field} is {_plain(getattr(config, field))} and should be {_plain(value)}"
        for field, value in expected.items()
        if (getattr(config, field) or None) != (value or None)
    ]
    subjects = config.subjects or []
    if subject and not (len(subjects) == 1 and re.fullmatch(subject, subjects[0])):
        wrong.append(f"subjects are {subjects} and should be one that Flowhook gave it")
    if wrong:
        raise InvalidError(
            f"the stream {config.name} has another configuration than this router needs: {'; '.join(wrong)}. Correct "
            f"it by `nats stream edit {config.name}`, correct the URL of the log, or choose another `?prefix=` than "
            f"{url.prefix}",
            reason="LOG_CONFIGURATION",
        )


def _plain(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


async def _attempt(
    connection: LogConnection, url: LogUrl, operation: Callable[[], Awaitable[StreamInfo]], seconds: float
) -> StreamInfo:
    without_peers: InvalidError | None = None

    async def attempt() -> StreamInfo:
        nonlocal without_peers
        without_peers = None
        try:
            return await operation()
        except APIError as error:
            refusal = _refusal(error, url)
            if refusal and error.err_code == NO_SUITABLE_PEERS:
                without_peers = refusal  # a server that starts is no peer yet
                raise ServiceUnavailableError(description=error.description) from error
            if refusal:
                raise refusal from error
            raise

    try:
        return await connection.persist(attempt, seconds=seconds, waiting="waiting for a quorum of the log's servers")
    except NotFoundError:
        raise
    except (nats.errors.Error, OSError) as error:
        if without_peers:
            raise without_peers from error
        if isinstance(error, BadRequestError):
            raise connection.unavailable(f"its servers refuse: {error.description}") from error
        if not connection.offers_jetstream:
            raise _disabled() from error
        raise connection.unavailable(
            f"JetStream did not answer within {seconds:g} s ({str(error) or type(error).__name__}); more than half of "
            "the servers have to run and to reach each other"
        ) from error


def _refusal(error: APIError, url: LogUrl) -> InvalidError | None:
    """Return the error for an answer that stays the same until somebody changes something; else None."""
    if error.err_code in JETSTREAM_DISABLED:
        return _disabled()
    if error.err_code in STORAGE_TOO_SMALL or "insufficient storage" in str(error.description):
        return InvalidError(
            f"the servers of the log have not enough storage: {error.description}. Allow more by "
            "`jetstream { max_file_store: ... }` in their configuration, or a smaller log by `?max_bytes=` in the URL",
            reason="LOG_STORAGE",
        )
    if error.err_code in (NO_SUITABLE_PEERS, REPLICAS_UNSUPPORTED):
        return InvalidError(
            f"the servers of the log can't store {url.replicas} replicas: {error.description}. A single server needs "
            f"`?replicas=1` in the URL. For {url.replicas} replicas run {url.replicas} servers, each with a `cluster` "
            "block in its configuration: `cluster { name: flowhook, listen: 0.0.0.0:6222, "
            "routes: [nats://other-server:6222, ...] }`",
            reason="LOG_REPLICAS",
        )
    return None


def _disabled() -> InvalidError:
    return InvalidError(
        'JetStream is not enabled on the servers of the log: write `jetstream { store_dir: "/data" }` into their '
        "configuration, with accounts also `jetstream: enabled` into that of the account",
        reason="LOG_JETSTREAM_DISABLED",
    )


BATCH_MESSAGES: Final = 512
BATCH_BYTES: Final = 4 << 20
SILENCE_SECONDS: Final = 1.0


class StoredMessage(NamedTuple):
    """A message as a server has it. Anybody may have stored it."""

    position: int  # in its stream, from 1
    message_id: str  # by which the server looks for duplicates
    data: bytes
    purged: bool = False  # whether only its position is known


async def messages_after(connection: LogConnection, stream: str, subject: str, after: int) -> list[StoredMessage]:
    """Return some of the next messages of a subject after a position of the stream, in order, with one request.

    Any replica of the stream may answer, and one that is behind gives fewer messages, but none that is wrong.

    Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md ("batch direct get")
    """
    request = {"seq": after + 1, "batch": BATCH_MESSAGES, "max_bytes": BATCH_BYTES, "next_by_subj": subject}
    found: list[StoredMessage] = []
    # those that have arrived are in order: whatever ends a batch early, the caller asks again for the rest
    with contextlib.suppress(nats.errors.Error, OSError, ValueError, KeyError):  # the last two: of made-up headers
        client = connection.client
        inbox = client.new_inbox()
        messages = await client.subscribe(inbox)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
            while True:
                message = await messages.next_msg(SILENCE_SECONDS)
                headers = message.headers or {}
                position = int(headers.get("Nats-Sequence", 0))
                # a message that names another before it than we have: one was lost on the way
                if not position or (found and int(headers["Nats-Last-Sequence"]) != found[-1].position):
                    break
                found.append(StoredMessage(position, headers.get(Header.MSG_ID, ""), message.data))
        finally:
            await messages.unsubscribe()
    return found
