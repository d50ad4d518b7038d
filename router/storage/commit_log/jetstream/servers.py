"""Checks of the servers themselves: their version, and that they sync each write to disk before they acknowledge it.

The default of NATS is to sync every two minutes: an acknowledged record would be lost by a power failure. Only a
server's monitoring endpoint says how it is configured.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from nats.js.api import StreamInfo

from flowhook.errors import InvalidError
from flowhook.model.cluster import LogServerInfo
from router.storage.commit_log.jetstream.url import LogUrl

OLDEST_VERSION: Final = (2, 14)
MONITOR_SECONDS: Final = 2.0
ANSWER_BYTES: Final = 1 << 20
STORE_OFF: Final = (
    "has turned its storage (JetStream) off, as a server does when its disk is full: make room, and restart it"
)
SILENT: Final = "does not answer at its monitoring address: start it, or see its log"
_NOT_ENABLED: Final = "10076"  # error code of NATS: JetStream is not enabled
_WITHOUT_PROXIES: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class MonitoredServer:
    """What the monitoring endpoint of a server says of it; `problem`: what keeps it out, or empty."""

    name: str
    version: str
    sync_always: bool
    problem: str = ""


def check_version(version: str, name: str) -> None:
    """Raise InvalidError (`LOG_SERVER_OUTDATED`) if a server is too old."""
    numbers = tuple(int(part) for part in version.lstrip("v").split("-")[0].split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_VERSION:
        raise InvalidError(
            f"the server {name} of the log is nats-server {version}: upgrade it to "
            f"{'.'.join(map(str, OLDEST_VERSION))} or newer",
            reason="LOG_SERVER_OUTDATED",
        )


def check_sync(url: LogUrl, info: StreamInfo, connected: str) -> None:
    """Refuse servers that do not report that they sync each write: those of the log, and `connected`. Blocks.

    Raises:
        InvalidError: a server of the stream does not (`LOG_NOT_SYNCED`), or is too old (`LOG_SERVER_OUTDATED`).
    """
    found = monitored_servers(url)
    for server in found.values():
        check_version(server.version, server.name)
    names = sorted({server.name for server in replicas_of(info)} | {connected})
    silent = [name for name in names if name not in found]
    lazy = [name for name in names if name in found and not found[name].sync_always]
    if lazy:
        raise InvalidError(
            f"{', '.join(lazy)} may lose acknowledged records in a power failure: write `sync_interval: always` into "
            "the block `jetstream` of the servers' configuration and restart them, one after another; or accept it "
            "by `?fsync=trust` in the URL of the log",
            reason="LOG_NOT_SYNCED",
        )
    if silent:
        raise InvalidError(
            f"whether {', '.join(silent)} sync each write could not be seen: no answer from their monitoring at "
            f"{', '.join(url.monitors)}. Write `http: 0.0.0.0:8222` into the servers' configuration, and name each "
            "server's address for it in the URL of the log, `?monitor=host:8222,host:8222`; or take it on trust by "
            "`?fsync=trust`",
            reason="LOG_NOT_SYNCED",
        )


def monitored_servers(url: LogUrl) -> dict[str, MonitoredServer]:
    """Return the servers whose monitoring endpoints answer, by name. Blocks for `MONITOR_SECONDS` at most, or so."""
    with ThreadPoolExecutor(max_workers=len(url.monitors)) as pool:
        return {server.name: server for server in pool.map(_ask, url.monitors) if server}


def replicas_of(info: StreamInfo, monitored: Mapping[str, MonitoredServer] | None = None) -> list[LogServerInfo]:
    """Return the servers that hold a replica of a stream, by name, with what their monitoring says."""
    monitored = monitored or {}
    cluster = info.cluster

    def seen(name: str) -> tuple[str, str]:
        server = monitored.get(name)
        return (server.version, server.problem) if server else ("", "")

    servers: list[LogServerInfo] = []
    for peer in (cluster and cluster.replicas) or ():
        version, problem = seen(name := str(peer.name))
        current = bool(peer.current) and not peer.offline
        servers.append(LogServerInfo(name, version, current, leader=False, lag=peer.lag or 0, problem=problem))
    if cluster and cluster.leader:
        version, _ = seen(cluster.leader)
        servers.append(LogServerInfo(cluster.leader, version, current=True, leader=True, lag=0, problem=""))
    return sorted(servers, key=lambda server: server.name)


def without_quorum(
    servers: Iterable[LogServerInfo], monitored: Mapping[str, MonitoredServer]
) -> Iterator[LogServerInfo]:
    """Yield servers as they are while no quorum answers: none is up to date, and some may not answer at all."""
    for server in servers:
        problem = server.problem or ("waits for the others" if server.name in monitored else SILENT)
        yield replace(server, current=False, leader=False, problem=problem)


def _ask(address: str) -> MonitoredServer | None:
    try:
        answer = _get(f"http://{address}/varz")
        jetstream = answer.get("jetstream", {}).get("config", {})
        # /varz still shows how a storage is configured that the server has turned off
        health = _get(f"http://{address}/healthz?js-enabled-only=true")
        problem = STORE_OFF if _NOT_ENABLED in str(health.get("error", "")) else ""
        return MonitoredServer(answer["server_name"], answer["version"], jetstream.get("sync_always") is True, problem)
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _get(url: str) -> dict[str, Any]:
    try:
        with _WITHOUT_PROXIES.open(url, timeout=MONITOR_SECONDS) as response:
            content = response.read(ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            content = error.read(ANSWER_BYTES)
    answer: dict[str, Any] = json.loads(content)
    return answer
