"""Composition root of the router: on the embedded storage, or on a replicated log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from flowhook.asyncio_tasks import beside
from flowhook.errors import InvalidError
from flowhook.process import logs, metrics
from flowhook.process.installation import import_late
from flowhook.process.metrics import process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.security.private_files import restrict_permissions
from flowhook.security.tokens import TokenVerifier
from flowhook.sharing.table import RouterLimits
from router.cluster.shard_map import SingleOwner
from router.cluster.term import StopRequest
from router.flows.parsing import InputParser
from router.process.credentials import CredentialWatch, load_credentials
from router.process.serving import OwnedShard
from router.services.shards import ShardService
from router.storage.storage import SWITCH_INTERVAL_SECONDS, open_storage

# modules that few need, and that are imported once this process is ready; see `flowhook.process.installation`
LATE_IMPORTS: Final = (
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.ciphers.aead",
    "flowhook.signatures.certificates",
    "flowhook.signatures.tokens",
    "flowhook.signatures.public_keys",
    "grpc_status.rpc_status",
)
MAX_PATHS: Final = 10  # most paths in one log entry
log = logs.get_logger(__name__)


async def serve(
    settings: RouterSettings,
    process_state: ProcessState,
    *,
    registry: CollectorRegistry | None = None,
    limits: RouterLimits | None = None,
) -> None:
    """Serve until the process is to stop, then drain: runners detach, and writes under way become durable.

    Metrics are registered in `registry`, by default that of the process. Callers share `limits`; a router of several
    has the default ones.

    Raises:
        FlowhookError: the data directory, the storage, the port or a certificate can't be used.
    """
    process_state.late_loads = (partial(import_late, LATE_IMPORTS),)
    # else the storage's writer thread waits long for the GIL while this process is busy
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    database = settings.database()
    try:
        exposed = await asyncio.to_thread(restrict_permissions, settings.data_dir, database)
    except OSError as error:
        raise InvalidError(
            f"can't use the data directory {settings.data_dir}: {os.strerror(error.errno or 0)}",
            reason="DATA_DIR_UNUSABLE",
        ) from None
    if exposed:
        log.warning(
            "other users can access the data directory",
            paths=[str(path) for path in exposed[:MAX_PATHS]],
            count=len(exposed),
        )
    if database is None:
        from router.process.replicated_app import serve_replicated  # noqa: PLC0415 - the client of NATS is large

        await serve_replicated(settings, process_state, registry=registry)
        return
    async with process_metrics(process_state, registry):
        storage, stop = await open_storage(database, max_bytes=settings.storage_max_bytes), StopRequest()
        try:
            async with beside(stop.drain_after(process_state.stop, settings.drain_seconds)):
                key = await load_credentials(settings, storage.registry)
                state = await storage.own()
                async with (
                    beside(CredentialWatch(settings, process_state, key).run()),
                    contextlib.aclosing(InputParser()) as parser,
                ):
                    await OwnedShard(
                        settings=settings,
                        process_state=process_state,
                        storage=storage,
                        state=state,
                        key=key,
                        parser=parser,
                        verifier=TokenVerifier(settings.data_dir),
                        shards=ShardService(SingleOwner(settings, process_state, state.epoch)),
                        stop=stop,
                        port=settings.grpc_port,
                        registry=registry or metrics.registry(),
                        limits=limits or RouterLimits(),
                        serving=process_state.ready.set,
                    ).serve()
        finally:
            await storage.close()
