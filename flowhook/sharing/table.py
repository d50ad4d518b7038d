"""All limits that principals share, of router, edge and admin. `docs/limits.md` is checked against this table."""

from __future__ import annotations

from typing import Final

from flowhook.sharing.limit import Limit

LIMITS: Final[tuple[Limit, ...]] = ()
"""The limits in the order in which the docs list them."""
