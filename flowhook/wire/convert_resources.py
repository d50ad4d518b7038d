"""Pure conversion of flows, secrets, rejections and audit entries between `flowhook.model` and `flowhook.v1`."""

from __future__ import annotations

from flowhook.model import Change, Flow, FlowRevision
from flowhook.model.audit import AuditEntry
from flowhook.model.rejections import Acceptability, RejectedRequest, RejectionCount
from flowhook.model.secrets import SecretInfo
from flowhook.v1 import audit_service_pb2, flow_service_pb2, rejection_service_pb2
from flowhook.v1 import secret_service_pb2 as secret_pb2
from flowhook.wire.convert import headers_from_proto, milliseconds, optional_milliseconds, optional_timestamp, timestamp

_AppliedPb = flow_service_pb2.AppliedFlow
_CHANGE_TO_PROTO = {
    Change.CREATED: _AppliedPb.CHANGE_CREATED,
    Change.UPDATED: _AppliedPb.CHANGE_UPDATED,
    Change.UNCHANGED: _AppliedPb.CHANGE_UNCHANGED,
}
_CHANGE_FROM_PROTO: dict[int, Change] = {value: change for change, value in _CHANGE_TO_PROTO.items()}

_RejectionPb = rejection_service_pb2.Rejection
_ACCEPTABILITY_FROM_PROTO: dict[int, Acceptability] = {
    _RejectionPb.ACCEPTABILITY_ACCEPTABLE: Acceptability.ACCEPTABLE,
    _RejectionPb.ACCEPTABILITY_NOT_AUTHENTICATION: Acceptability.NOT_AUTHENTICATION,
    _RejectionPb.ACCEPTABILITY_NOT_STORED: Acceptability.NOT_STORED,
    _RejectionPb.ACCEPTABILITY_INCOMPLETE: Acceptability.INCOMPLETE,
    _RejectionPb.ACCEPTABILITY_ONE_TIME_URL: Acceptability.ONE_TIME_URL,
}


def flow_to_proto(flow: Flow) -> flow_service_pb2.Flow:
    """Return a flow as a message."""
    return flow_service_pb2.Flow(
        id=flow.id,
        document=flow.document,
        definition=flow.definition,
        revision=flow.revision,
        paused=flow.paused,
        has_webhook=flow.has_webhook,
        create_time=timestamp(flow.create_time_ms),
        update_time=timestamp(flow.update_time_ms),
        next_time=optional_timestamp(flow.next_time_ms),
    )


def flow_from_proto(message: flow_service_pb2.Flow) -> Flow:
    """Return the flow that a message holds."""
    return Flow(
        id=message.id,
        document=message.document,
        definition=message.definition,
        revision=message.revision,
        paused=message.paused,
        has_webhook=message.has_webhook,
        create_time_ms=milliseconds(message.create_time),
        update_time_ms=milliseconds(message.update_time),
        next_time_ms=optional_milliseconds(message, "next_time"),
    )


def revision_to_proto(revision: FlowRevision) -> flow_service_pb2.FlowRevision:
    """Return a revision as a message."""
    return flow_service_pb2.FlowRevision(
        revision=revision.revision, version=revision.version, update_time=timestamp(revision.update_time_ms)
    )


def revision_from_proto(message: flow_service_pb2.FlowRevision) -> FlowRevision:
    """Return the revision that a message holds."""
    return FlowRevision(message.revision, message.version, milliseconds(message.update_time))


def change_to_proto(change: Change) -> flow_service_pb2.AppliedFlow.Change:
    """Return the effect of applying a document as its enum value."""
    return _CHANGE_TO_PROTO[change]


def change_from_proto(value: int) -> Change:
    """Return the effect of applying a document; an unknown value of a newer version becomes `UPDATED`."""
    return _CHANGE_FROM_PROTO.get(value, Change.UPDATED)


def secret_to_proto(secret: SecretInfo) -> secret_pb2.Secret:
    """Return the metadata of a secret as a message."""
    return secret_pb2.Secret(name=secret.name, update_time=timestamp(secret.update_time_ms))


def secret_from_proto(message: secret_pb2.Secret) -> SecretInfo:
    """Return the metadata of a secret that a message holds."""
    return SecretInfo(message.name, milliseconds(message.update_time))


def rejection_from_proto(message: rejection_service_pb2.Rejection) -> RejectedRequest:
    """Return the refused request that a message describes."""
    return RejectedRequest(
        id=message.id,
        flow_id=message.flow_id,
        callback=message.callback,
        time_ms=milliseconds(message.time),
        status=message.status,
        reason=message.reason,
        detail=message.detail,
        address=message.address,
        method=message.method,
        path=message.path,
        query=message.query,
        headers=headers_from_proto(message.headers),
        body_size=message.body_size,
        body=message.body,
        suppressed=message.suppressed,
        acceptability=_ACCEPTABILITY_FROM_PROTO.get(message.acceptability, Acceptability.UNKNOWN),
        accepted_event_id=message.accepted_event_id,
        accept_time_ms=optional_milliseconds(message, "accept_time"),
        diagnosis=message.diagnosis,
        accepted_by=message.accepted_by,
    )


def rejection_count_from_proto(message: rejection_service_pb2.RejectionCount) -> RejectionCount:
    """Return the count of refused requests that a message holds."""
    return RejectionCount(
        message.flow_id,
        message.reason,
        message.count,
        milliseconds(message.first_time),
        milliseconds(message.last_time),
    )


def audit_entry_to_proto(entry: AuditEntry) -> audit_service_pb2.AuditEntry:
    """Return an entry of the audit log as a message."""
    return audit_service_pb2.AuditEntry(
        number=entry.number,
        time=timestamp(entry.time_ms),
        actor=entry.actor,
        action=entry.action,
        target=entry.target,
        reason=entry.reason,
        error=entry.error,
        calls=entry.calls,
        last_time=timestamp(entry.last_time_ms or entry.time_ms),
        address=entry.address,
    )


def audit_entry_from_proto(message: audit_service_pb2.AuditEntry) -> AuditEntry:
    """Return the entry of the audit log that a message holds."""
    return AuditEntry(
        number=message.number,
        time_ms=milliseconds(message.time),
        actor=message.actor,
        action=message.action,
        target=message.target,
        reason=message.reason,
        error=message.error,
        calls=message.calls or 1,
        last_time_ms=milliseconds(message.last_time if message.HasField("last_time") else message.time),
        address=message.address,
    )
