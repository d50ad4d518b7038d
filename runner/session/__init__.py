"""The runner's half of Attach, without I/O: what the router says goes in, what is to be done comes out.

::

    detached --connected()--> greeting --Welcome--> attached --Drain/disconnected()--> detached
                                 |                      |
                              only Hello           everything else

Leases outlive streams. A lease is *held* from its assignment until its outcome is settled, revoked or lost; while it is
held, its checkpoints that are not acknowledged and its outcome that is not settled are kept and, after a new
connection, sent again, checkpoints first. Both are idempotent on the router's side.

What an execution waits for while it is worked on is said anew on each stream, and again whenever it changes; each word
has a *generation*, and only what was found by the last one is taken in, one arrival at the most. So the router knows of
each arrival whether it was taken in: a checkpoint says so before the next word does.

Whether leases are still good only the router knows. What proves it is its answer, and what it proves dates from when
the question was put, not from when the answer was read: this process may have been stopped in between, and what waits
in the socket is old. Where that is longer ago than a lease, or the stream ended since, no effect is begun before there
is a newer answer.

A runner that could not reach the router for as long abandons its work, and gives it back; if the router was dead all
that time, it takes that, and nobody is charged. If it was not, others have the work by now.

What happened within executions, and others want to know, goes with the checkpoints, or in ones without an entry, in
order: so it is durable before what comes after it. What is wanted is said anew on each stream.

Nothing is sent at once: `take` returns everything that gathered since the last call, so that what happened while a
write was under way goes into the next one.

Credit is additive and dies with the stream. Bounds: `capacity` executions worked on, four times that with those whose
outcome waits to be settled, and `MAX_HELD_BYTES` of events.
"""

from runner.session.machine import Session
from runner.session.messages import (
    Abandon,
    Arrival,
    Arrivals,
    Assigned,
    Assignment,
    Attached,
    Checkpoint,
    Checkpointed,
    Checkpoints,
    Completed,
    Credit,
    Effect,
    Ending,
    Extended,
    Faulted,
    Forget,
    Hello,
    Incoming,
    Interest,
    Listening,
    Listenings,
    Outcome,
    Outcomes,
    Outgoing,
    Parked,
    Proceed,
    Reattach,
    Released,
    Renewal,
    Renewed,
    Revoked,
    RouterDrains,
    Settled,
    Start,
    TakeIn,
    Tell,
    Welcome,
)

__all__ = [
    "Abandon",
    "Arrival",
    "Arrivals",
    "Assigned",
    "Assignment",
    "Attached",
    "Checkpoint",
    "Checkpointed",
    "Checkpoints",
    "Completed",
    "Credit",
    "Effect",
    "Ending",
    "Extended",
    "Faulted",
    "Forget",
    "Hello",
    "Incoming",
    "Interest",
    "Listening",
    "Listenings",
    "Outcome",
    "Outcomes",
    "Outgoing",
    "Parked",
    "Proceed",
    "Reattach",
    "Released",
    "Renewal",
    "Renewed",
    "Revoked",
    "RouterDrains",
    "Session",
    "Settled",
    "Start",
    "TakeIn",
    "Tell",
    "Welcome",
]
