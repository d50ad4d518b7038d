"""The runner's half of Attach, made and attached for a test."""

from __future__ import annotations

from flowhook.attach import messages as m
from flowhook.events.lifecycle import LifecycleEvent, TaskEventType
from runner import session as s

CAPACITY = 8
LEASE = 6.0


def new_session(**more):
    arguments = {"runner_id": "r", "components": ("http",), "build": "1", "capacity": CAPACITY}
    return s.Session(**{**arguments, "losses_explained": True, **more})


def attached(session=None, retained=frozenset(), now=0.0):
    session = session or new_session()
    session.connected(now)
    session.take()
    session.receive(m.Welcome(LEASE, frozenset(retained)), now)
    return session


def renew(session, now):
    """Renew, and have it answered."""
    session.renew(now)
    session.take()
    session.receive(m.Renewed(int(now * 1e6)), now)


def assignment(lease, event=b"event"):
    return m.Assignment(lease, 1, 1, event)


def happened(number, data=b"{}"):
    return LifecycleEvent(TaskEventType.STARTED, str(number), 1, data)
