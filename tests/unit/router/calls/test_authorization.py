"""The scopes of methods."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import DESCRIPTOR as HEALTH
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR as REFLECTION

from flowhook.errors import InternalError
from router.calls.authorization import check_scopes_listed
from router.process.grpc_server import OWNER_SERVICES, SHARD_SERVICE


def test_each_method_that_a_router_offers_has_scopes():
    others = [HEALTH.services_by_name["Health"], REFLECTION.services_by_name["ServerReflection"]]
    check_scopes_listed([*OWNER_SERVICES, SHARD_SERVICE, *others])


def test_a_method_without_scopes_is_refused_by_name():
    file = FileDescriptorProto(name="invented.proto", package="flowhook.v1")
    file.message_type.add(name="Empty")
    file.service.add(name="FlowService").method.add(
        name="Invent", input_type=".flowhook.v1.Empty", output_type=".flowhook.v1.Empty"
    )
    pool = DescriptorPool()
    pool.Add(file)
    with pytest.raises(InternalError, match=r"FlowService/Invent") as caught:
        check_scopes_listed([pool.FindServiceByName("flowhook.v1.FlowService")])
    assert caught.value.reason == "SCOPES_UNLISTED"
