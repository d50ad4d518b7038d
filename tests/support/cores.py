"""The scheduling core of one shard, and what its tests do to it. Time is whatever they say."""

from __future__ import annotations

from router.scheduling.shard import Shard

LEASE = 6.0
REATTACH = 2.0


def make_shard(*recovered, epoch=1, now=0.0, max_attempts=3):
    """Make a shard that found `recovered`, of flow "a", at its start."""
    shard = Shard(epoch=epoch, lease_seconds=LEASE, max_attempts=max_attempts, reattach_seconds=REATTACH)
    for seq in recovered:
        shard.recover(seq, "a", 0)
    shard.begin(now)
    return shard


def attach(shard, runner="r1", *, credit=100, held=(), explained=True, now=0.0):
    attached = shard.attach(runner, held, explained=explained, now=now)
    if credit:
        assert shard.runners.add_credit(runner, credit)
    return attached


def accept(shard, flow, *seqs):
    for seq in seqs:
        shard.accept(seq, flow)


def on_record(shard, losses):
    """Say that losses are durable; returns them without the attempts that they interrupted."""
    shard.requeued([loss.seq for loss in losses if not loss.exhausted])
    return [bare(loss) for loss in losses]


def bare(loss):
    """Return a loss without the attempt that it interrupted."""
    return loss._replace(interrupted=None)


def lose_by_absence(shard, now=0.0):
    """Have "r1" stay away with all that is ready, until that is lost; returns what it was assigned, and the time."""
    assigned = shard.assign()
    shard.runners.detach("r1", now)
    on_record(shard, shard.expire(now + REATTACH).losses)
    return assigned, now + REATTACH
