"""Links between executions arrive as they were sent."""

from flowhook.model import Status
from flowhook.model.executions import NO_LINKS, ExecutionLinks, LinkedExecution, LinkKind
from flowhook.v1.execution_service_pb2 import ExecutionLinks as Message
from flowhook.v1.execution_service_pb2 import LinkedExecution as LinkedMessage
from flowhook.wire.convert_links import links_from_proto, links_to_proto


def test_links_arrive_as_they_were_sent():
    links = ExecutionLinks(
        (LinkedExecution("evt_1", (LinkKind.EVENT, LinkKind.LISTEN)),),
        (LinkedExecution("evt_2", (LinkKind.RUN,), "shop", Status.FAULTED),),
        more_caused=True,
    )
    for sent in (links, NO_LINKS):
        assert links_from_proto(Message.FromString(links_to_proto(sent).SerializeToString())) == sent


def test_a_kind_of_a_newer_router_is_left_out():
    message = Message(causes=[LinkedMessage(execution_id="evt_1", kinds=[LinkedMessage.KIND_RUN, 99])])
    assert links_from_proto(message).causes == (LinkedExecution("evt_1", (LinkKind.RUN,)),)
