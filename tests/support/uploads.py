"""Hands in an event with a body that is stored apart, as an edge does."""

from __future__ import annotations

from flowhook.client import channel
from flowhook.events import ids
from flowhook.v1 import ingest_service_pb2 as pb
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub


async def uploaded(router, flow_id, body, **fields):
    """Upload a body and hand in an event with it; returns the ID of the execution."""
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = IngestServiceStub(connection)
        upload = stub.UploadBody()
        await upload.write(pb.UploadBodyRequest(start=pb.UploadStart(flow_id=flow_id, size=len(body))))
        for start in range(0, len(body), 100_000):
            await upload.write(pb.UploadBodyRequest(chunk=body[start : start + 100_000]))
        await upload.write(pb.UploadBodyRequest(end=pb.UploadEnd()))
        await upload.done_writing()
        event_id = ids.mint(ids.slot_of(flow_id))
        event = Event(id=event_id, flow_id=flow_id, body_blob=(await upload).blob, method="POST", **fields)
        await stub.IngestEvents(pb.IngestEventsRequest(events=[event]))
        return event_id
