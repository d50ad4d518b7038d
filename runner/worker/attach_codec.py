"""Converts Attach messages between protobuf and the plain data of `session`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from runner import session

MICROSECONDS: Final = 1_000_000


def unbundle(message: pb.AttachResponse) -> Sequence[pb.AttachResponse]:
    """Return the messages of a bundle, or the message itself if it is not a bundle."""
    return message.bundle.responses if message.HasField("bundle") else (message,)


def bundle(messages: Sequence[pb.AttachRequest]) -> pb.AttachRequest:
    """Return a bundle of several messages."""
    return pb.AttachRequest(bundle=pb.RequestBundle(requests=messages))


def decode(message: pb.AttachResponse) -> session.Incoming | None:
    """Convert a message from the router; None: this version does not know its kind."""
    match message.WhichOneof("message"):
        case "welcome":
            welcome = message.welcome
            return session.Welcome(
                convert.seconds(welcome.lease_duration),
                frozenset(welcome.kept_leases),
                welcome.takes_bundles,
                welcome.answers_renewals,
            )
        case "assignments":
            return session.AssignmentBatch(
                tuple(
                    session.Assignment(
                        item.lease,
                        item.attempt,
                        item.flow_revision,
                        item.event,
                        tuple(convert.journal_entry_from_proto(entry) for entry in item.journal),
                        item.journal_start,
                        item.effect_scope,
                    )
                    for item in message.assignments.assignments
                )
            )
        case "checkpointed":
            return session.Checkpointed(
                tuple((item.lease, item.index, item.number) for item in message.checkpointed.checkpoints)
            )
        case "arrivals":
            return session.ArrivalBatch(
                tuple(
                    session.Arrival(
                        item.lease, item.generation, item.number, convert.journal_entry_from_proto(item.entry)
                    )
                    for item in message.arrivals.arrivals
                )
            )
        case "settlement":
            return session.Settled(tuple(message.settlement.leases))
        case "revocation":
            return session.Revoked(tuple(message.revocation.leases), message.revocation.reason)
        case "renewed":
            return session.Renewed(message.renewed.stamp / MICROSECONDS)
        case "interest":
            return session.LifecycleFilter(frozenset(message.interest.event_types))
        case "drain":
            return session.RouterDrains(convert.seconds(message.drain.grace))
        case _:
            return None


def encode(message: session.Outgoing) -> pb.AttachRequest:
    """Convert a message to the router."""
    match message:
        case session.Hello():
            return pb.AttachRequest(
                hello=pb.Hello(
                    runner_id=message.runner_id,
                    components=message.components,
                    build=message.build,
                    held_leases=message.held_leases,
                    losses_explained=message.losses_explained,
                    takes_bundles=True,
                )
            )
        case session.Credit():
            return pb.AttachRequest(credit=pb.Credit(assignments=message.assignments))
        case session.Renewal():
            return pb.AttachRequest(renewal=pb.Renewal(stamp=int(message.moment * MICROSECONDS)))
        case session.CheckpointBatch():
            return pb.AttachRequest(
                checkpoints=pb.CheckpointBatch(
                    checkpoints=[
                        pb.Checkpoint(
                            lease=item.lease,
                            index=item.index,
                            entry=None if item.entry is None else convert.journal_entry_to_proto(item.entry),
                            compacts=item.compacts,
                            reply=None if item.reply is None else convert.reply_to_proto(item.reply),
                            arrival=item.arrival,
                            events=map(convert.lifecycle_event_to_proto, item.events),
                            number=item.number,
                            history=item.history,
                        )
                        for item in message.checkpoints
                    ]
                )
            )
        case session.SubscriptionBatch():
            return pb.AttachRequest(
                listening=pb.ListeningBatch(
                    listening=[
                        pb.Listening(
                            lease=item.lease,
                            generation=item.generation,
                            subscriptions=map(convert.subscription_to_proto, item.subscriptions),
                        )
                        for item in message.listening
                    ]
                )
            )
        case session.OutcomeBatch():
            return pb.AttachRequest(
                outcomes=pb.OutcomeBatch(
                    outcomes=[
                        _eventful(outcome) if outcome.events else _outcome(outcome) for outcome in message.outcomes
                    ]
                )
            )


def _eventful(outcome: session.Outcome) -> pb.Outcome:
    message = _outcome(outcome)
    message.events.extend(map(convert.lifecycle_event_to_proto, outcome.events))
    return message


def _outcome(outcome: session.Outcome) -> pb.Outcome:
    match outcome.ending:
        case session.Completed(output=output):
            return pb.Outcome(lease=outcome.lease, completed=pb.Completed(output=output), history=outcome.history)
        case session.Faulted(error=error):
            return pb.Outcome(lease=outcome.lease, faulted=convert.error_to_proto(error), history=outcome.history)
        case session.Parked(wake_at_ms=wake, subscriptions=subscriptions):
            parked = pb.Parked(
                wake_time=None if wake is None else convert.timestamp(wake),
                subscriptions=map(convert.subscription_to_proto, subscriptions),
            )
            return pb.Outcome(lease=outcome.lease, parked=parked, history=outcome.history)
        case session.Released(reason=reason, charged=charged):
            return pb.Outcome(lease=outcome.lease, released=pb.Released(reason=reason, charged=charged))
