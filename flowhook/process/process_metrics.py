"""Metrics that every process has: which build it is, how late its event loop is, and how its clock stands."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Callable
from typing import Final

from prometheus_client import CollectorRegistry

import flowhook
from flowhook.process import server_certificates
from flowhook.process.metric_table import METRICS
from flowhook.process.metrics import ExposedMetrics, Histogram, Reading, expose, registry
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import until_tick

LAG_SECONDS: Final = 2.0  # between two looks at how late the event loop is


@contextlib.asynccontextmanager
async def process_metrics(
    process_state: ProcessState, metrics: CollectorRegistry | None = None
) -> AsyncIterator[ExposedMetrics]:
    """Let a process expose what is in a registry, by default its own, and these metrics, within the context."""
    exposed = ExposedMetrics([metrics or registry(), own := CollectorRegistry()])
    process_state.metrics = exposed.text
    lag = Histogram("flowhook_event_loop_lag_seconds")
    readings: dict[str, Callable[[], Reading]] = {
        "flowhook_build_info": lambda: [((flowhook.__version__, platform.python_version()), 1)],
        "flowhook_event_loop_lag_seconds": lambda: lag,
        "flowhook_clock_skew_seconds": lambda: (
            [] if process_state.clock_skew is None else [((), process_state.clock_skew)]
        ),
        "flowhook_certificate_expiry_timestamp_seconds": server_certificates.expiries,
    }
    expose(own, {name: read for name, read in readings.items() if process_state.role in METRICS[name].roles})
    measuring = asyncio.create_task(_measure(lag), name="measure the lag of the event loop")
    try:
        yield exposed
    finally:
        measuring.cancel()


async def _measure(lag: Histogram) -> None:
    now = asyncio.get_running_loop().time
    while True:
        seconds = until_tick(LAG_SECONDS)
        due = now() + seconds
        await asyncio.sleep(seconds)
        lag.observe(now() - due)
