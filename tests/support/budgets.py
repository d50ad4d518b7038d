"""A budget of received bytes that one sender may use alone."""

from __future__ import annotations

from dataclasses import replace

from edge.http.receive_budget import ReceiveBudget
from flowhook.sharing.table import EdgeLimits


def limits_with(most):
    """Return the limits of an edge that has memory for so many received bytes, of whichever senders."""
    limits = EdgeLimits()
    return replace(limits, received_bytes=replace(limits.received_bytes, total=most, parts=1))


def budget_of(most):
    """Return a budget of so many bytes."""
    return ReceiveBudget(limits_with(most).received_bytes)
