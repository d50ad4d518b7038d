"""The benchmark's flow, and signed requests to it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.events import payload
from bench.load import Request
from flowhook.client import AsyncClient

FOLDER: Final = Path(__file__).parent


def signed(url: str, key: str) -> Request:
    """Return a request with its HMAC."""
    body = payload()
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return Request(url, {"Content-Type": "application/json", "X-Signature": f"sha256={signature}"}, body)


async def apply_flow(client: AsyncClient, name: str) -> str:
    """Apply the benchmark's flow under a name and return its ID."""
    document = (FOLDER / "flow.yaml").read_text().replace("NAME", name)
    await client.flows.apply([document.encode()])
    return f"bench.{name}"


def quantile(ascending: Sequence[float], fraction: float) -> float:
    """Return the quantile of ascending values."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * fraction))]
