"""The runner's half of the Attach protocol, without I/O: messages from the router in, effects out.

::

    detached --connected()--> greeting --Welcome--> attached --Drain/disconnected()--> detached
                                 |                      |
                              only Hello           everything else

**Leases** outlive streams. A lease is *held* from its assignment until its outcome is settled or the lease is revoked
or lost. While it is held, unacknowledged checkpoints and the unsettled outcome are retained and sent again on a new
stream, checkpoints first. The router handles both idempotently.

**Subscriptions** of a running execution are sent again on each stream and whenever they change. Each set has a
*generation* number. Only a delivery for the latest generation is accepted, and at most one. The router thus knows
whether each event was consumed: the checkpoint that consumes it is sent before the next generation.

**Certainty.** Only the router knows whether leases are still valid. Its answer to a renewal proves it, as of the time
the renewal was made, not as of the time the answer was read: this process may have been stopped in between, and data in
the socket is old. If that time is longer ago than a lease, or the stream has ended since, no effect starts before there
is a newer answer.

**Expiry.** A runner that could not reach the router for the length of a lease abandons its executions and releases
their leases. If the router was down all that time, it accepts the releases, and no attempt is charged. If it was not,
it has assigned the executions to other runners.

**Lifecycle events** of executions that flows subscribed to are sent with the checkpoints, or in checkpoints without an
entry, in order. So they are durable before whatever follows them. The event filter is sent again on each stream.

**Batching.** Nothing is sent at once: `take` returns all messages since the last call, so that whatever happens during
a write goes into the next one.

**Credit** is additive and lost with the stream. Bounds: `capacity` running executions; four times as many leases,
including those with an unsettled outcome; `MAX_HELD_BYTES` of events.
"""

from runner.session.effects import (
    Abandon,
    AttachAccepted,
    Deliver,
    Effect,
    LeasesConfirmed,
    Proceed,
    Reattach,
    ReleaseOutcome,
    SetLifecycleFilter,
    StartAttempt,
)
from runner.session.machine import Session

__all__ = [
    "Abandon",
    "AttachAccepted",
    "Deliver",
    "Effect",
    "LeasesConfirmed",
    "Proceed",
    "Reattach",
    "ReleaseOutcome",
    "Session",
    "SetLifecycleFilter",
    "StartAttempt",
]
