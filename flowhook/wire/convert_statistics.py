"""Pure conversion between `flowhook.model.flows` and `flowhook.v1`, as in `convert`."""

from __future__ import annotations

from flowhook.model.flows import (
    FlowCondition,
    FlowStatistics,
    FlowStatisticsPage,
    NamedSecret,
)
from flowhook.model.secrets import SecretUse, SecretUser, SecretUses
from flowhook.v1 import flow_service_pb2 as pb
from flowhook.v1 import secret_service_pb2 as secret_pb
from flowhook.wire.convert import milliseconds, optional_milliseconds, optional_timestamp, timestamp
from flowhook.wire.convert_resources import flow_from_proto, flow_to_proto, secret_from_proto

_CONDITION_TO_PROTO = {
    FlowCondition.PAUSED: pb.FLOW_CONDITION_PAUSED,
    FlowCondition.FAILING: pb.FLOW_CONDITION_FAILING,
    FlowCondition.NEEDS_SECRET: pb.FLOW_CONDITION_NEEDS_SECRET,
}
_CONDITION_FROM_PROTO: dict[int, FlowCondition] = {value: key for key, value in _CONDITION_TO_PROTO.items()}


def condition_to_proto(condition: FlowCondition | None) -> pb.FlowCondition:
    """Return a condition as its enum value."""
    return pb.FLOW_CONDITION_UNSPECIFIED if condition is None else _CONDITION_TO_PROTO[condition]


def condition_from_proto(value: int) -> FlowCondition | None:
    """Return a condition; None: it is none, or not one of this version."""
    return _CONDITION_FROM_PROTO.get(value)


def statistics_to_proto(statistics: FlowStatistics) -> pb.FlowStatistics:
    """Return the numbers of a flow as a message."""
    message = pb.FlowStatistics(
        flow=flow_to_proto(statistics.flow),
        pending=statistics.pending,
        running=statistics.running,
        waiting=statistics.waiting,
        suspended=statistics.suspended,
        oldest_pending_time=optional_timestamp(statistics.oldest_pending_ms),
        last_event_time=optional_timestamp(statistics.last_event_ms),
    )
    message.flow.ClearField("document")
    message.flow.ClearField("definition")
    for counts, field in (
        (statistics.accepted, message.accepted),
        (statistics.completed, message.completed),
        (statistics.faulted, message.faulted),
    ):
        if any(counts):
            field.extend(counts)
    for secret in statistics.secrets:
        message.secrets.add(
            name=secret.name,
            missing=secret.missing,
            verifies=secret.verifies,
            expressions=secret.expressions,
            last_match_time=optional_timestamp(secret.match_time_ms),
            latest_match=secret.latest_match,
        )
    return message


def statistics_from_proto(message: pb.FlowStatistics) -> FlowStatistics:
    """Return the numbers of a flow that a message holds."""
    zeros = (0,) * 60
    return FlowStatistics(
        flow=flow_from_proto(message.flow),
        accepted=tuple(message.accepted) or zeros,
        completed=tuple(message.completed) or zeros,
        faulted=tuple(message.faulted) or zeros,
        pending=message.pending,
        running=message.running,
        waiting=message.waiting,
        suspended=message.suspended,
        oldest_pending_ms=optional_milliseconds(message, "oldest_pending_time"),
        last_event_ms=optional_milliseconds(message, "last_event_time"),
        secrets=tuple(
            NamedSecret(
                name=secret.name,
                missing=secret.missing,
                verifies=secret.verifies,
                expressions=secret.expressions,
                match_time_ms=optional_milliseconds(secret, "last_match_time"),
                latest_match=secret.latest_match,
            )
            for secret in message.secrets
        ),
    )


def page_from_proto(response: pb.ListFlowStatisticsResponse) -> FlowStatisticsPage:
    """Return the page of flows that a response holds."""
    items = [statistics_from_proto(each) for each in response.statistics]
    return FlowStatisticsPage(items, response.next_page_token, milliseconds(response.since))


def uses_to_proto(uses: SecretUses) -> secret_pb.ListSecretsResponse:
    """Return the uses of all secrets as a response."""
    response = secret_pb.ListSecretsResponse(matches_since=timestamp(uses.since_ms))
    for use in uses.items:
        target = response.missing_secrets if use.info is None else response.secrets
        message = target.add(
            name=use.name, user_count=use.user_count, last_match_time=optional_timestamp(use.match_time_ms)
        )
        if use.info is not None:
            message.update_time.CopyFrom(timestamp(use.info.update_time_ms))
        for user in use.users:
            message.users.add(
                flow_id=user.flow_id,
                verifies=user.verifies,
                expressions=user.expressions,
                last_match_time=optional_timestamp(user.match_time_ms),
                latest_match=user.latest_match,
            )
    return response


def uses_from_proto(response: secret_pb.ListSecretsResponse) -> SecretUses:
    """Return the uses of secrets that a response holds."""
    there = [_use(message, missing=False) for message in response.secrets]
    missing = [_use(message, missing=True) for message in response.missing_secrets]
    return SecretUses((*there, *missing), milliseconds(response.matches_since))


def _use(message: secret_pb.Secret, *, missing: bool) -> SecretUse:
    return SecretUse(
        name=message.name,
        info=None if missing else secret_from_proto(message),
        users=tuple(
            SecretUser(
                flow_id=user.flow_id,
                verifies=user.verifies,
                expressions=user.expressions,
                match_time_ms=optional_milliseconds(user, "last_match_time"),
                latest_match=user.latest_match,
            )
            for user in message.users
        ),
        user_count=message.user_count,
        match_time_ms=optional_milliseconds(message, "last_match_time"),
    )
