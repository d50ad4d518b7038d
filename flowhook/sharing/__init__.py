"""Limits that many callers share, and how they share them, so that none of them can use up what all need.

- `limit`: a limit with a share for each principal and places reserved for what keeps the service alive
- `queue`: the same for callers that wait: principals take turns
- `table`: all such limits of the product, as data
"""

from flowhook.sharing.limit import INTERNAL, Limit, Principal, Seat, SharedLimit, current_principal
from flowhook.sharing.queue import FairQueue

__all__ = ["INTERNAL", "FairQueue", "Limit", "Principal", "Seat", "SharedLimit", "current_principal"]
