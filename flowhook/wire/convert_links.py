"""Pure conversion of links between `flowhook.model.executions` and `flowhook.v1`, as in `convert`."""

from __future__ import annotations

from collections.abc import Iterable

from flowhook.model.executions import ExecutionLinks, LinkedExecution, LinkKind
from flowhook.v1 import execution_service_pb2
from flowhook.wire.convert import status_from_proto, status_to_proto

_LinkedPb = execution_service_pb2.LinkedExecution
_KIND_TO_PROTO = {
    LinkKind.RUN: _LinkedPb.KIND_RUN,
    LinkKind.EVENT: _LinkedPb.KIND_EVENT,
    LinkKind.LISTEN: _LinkedPb.KIND_LISTEN,
}
_KIND_FROM_PROTO: dict[int, LinkKind] = {value: kind for kind, value in _KIND_TO_PROTO.items()}


def links_to_proto(links: ExecutionLinks) -> execution_service_pb2.ExecutionLinks:
    """Return the links of an execution as a message."""
    return execution_service_pb2.ExecutionLinks(
        causes=map(_linked_to_proto, links.causes),
        caused=map(_linked_to_proto, links.caused),
        more_caused=links.more_caused,
    )


def links_from_proto(message: execution_service_pb2.ExecutionLinks) -> ExecutionLinks:
    """Return the links of an execution that a message holds."""
    return ExecutionLinks(_linked_from_proto(message.causes), _linked_from_proto(message.caused), message.more_caused)


def _linked_to_proto(linked: LinkedExecution) -> execution_service_pb2.LinkedExecution:
    return _LinkedPb(
        execution_id=linked.execution_id,
        kinds=[_KIND_TO_PROTO[kind] for kind in linked.kinds],
        flow_id=linked.flow_id,
        status=None if linked.status is None else status_to_proto(linked.status),
    )


def _linked_from_proto(messages: Iterable[execution_service_pb2.LinkedExecution]) -> tuple[LinkedExecution, ...]:
    return tuple(
        LinkedExecution(
            each.execution_id,
            tuple(_KIND_FROM_PROTO[kind] for kind in each.kinds if kind in _KIND_FROM_PROTO),
            each.flow_id,
            status_from_proto(each.status) if each.status else None,
        )
        for each in messages
    )
