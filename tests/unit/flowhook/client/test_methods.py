"""Methods of the blocking client: the request that each sends, and what it makes of the response."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from flowhook.client import AppliedFlow, JobPreview, ProcessInfo, SignedRequest
from flowhook.model import Change, Execution, Flow, Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.flows import SecretInfo
from flowhook.model.jobs import Job, JobAction, JobSpec, JobState
from flowhook.model.rejections import RejectedRequest
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import cluster_service_pb2 as cluster_pb
from flowhook.v1 import execution_service_pb2 as execution_pb
from flowhook.v1 import flow_service_pb2 as flow_pb
from flowhook.v1 import job_service_pb2 as job_pb
from flowhook.v1 import rejection_service_pb2 as rejection_pb
from flowhook.v1 import secret_service_pb2 as secret_pb
from flowhook.wire import convert
from flowhook.wire.mapping import from_proto, to_proto

FLOW = Flow("hello", b"", b"", 3, True, False, 0, 0)
FLOW_PB = to_proto(FLOW, flow_pb.Flow)
EXECUTION = Execution("evt_1", "hello", 3, Status.FAULTED, 1, 0)
EXECUTION_PB = to_proto(EXECUTION, execution_pb.Execution)
SECRET = SecretInfo("key", 0)
SECRET_PB = to_proto(SECRET, secret_pb.Secret)
REJECTION_PB = rejection_pb.Rejection(id="r1", flow_id="hello", status=401)
PROCESS = ProcessInfo("edge-1", "edge", "b", 7, "h", True, "", b"m", 0.0, "http://e")
PROCESS_PB = cluster_pb.Process(
    name="edge-1", role="edge", build="b", pid=7, host="h", ready=True, metrics=b"m", url="http://e"
)
APPLIED_PB = flow_pb.AppliedFlow(flow=FLOW_PB, change=flow_pb.AppliedFlow.CHANGE_UPDATED, warnings=["w"])
REPLAY = execution_pb.ReplayExecutionRequest


class MethodCase(NamedTuple):
    """A method with its arguments, the RPC and its request, the fields of its response, and the result."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    service: str
    request: Any
    response: dict[str, Any]
    result: Any


SIGNED_PB = {
    "method": "POST",
    "url": "https://h/hook/hello?x",
    "headers": [{"name": "x-a", "value": b"\xff"}],
    "body": b"{}",
    "auth_kind": "basic",
    "secret_name": "k",
    "credential": flow_pb.WebhookCredential(basic_username="bank"),
}
SIGNED = SignedRequest(
    "POST", "https://h/hook/hello?x", (("x-a", b"\xff"),), b"{}", "basic", "k", None, ("basic", "bank")
)

FLOWS = [
    MethodCase(
        "flows.sign_webhook",
        ("hello", "https://h", b"{}"),
        {"method": "POST", "content_type": "a/b", "headers": {"X-A": "\xe4"}, "new_delivery_id": True},
        "FlowService",
        flow_pb.SignWebhookRequest(
            flow_id="hello",
            base_url="https://h",
            method="POST",
            content_type="a/b",
            headers=[{"name": "x-a", "value": "\xe4".encode()}],
            body=b"{}",
            new_delivery_id=True,
        ),
        SIGNED_PB,
        SIGNED,
    ),
    MethodCase(
        "flows.sign_webhook",
        ("hello", "https://h", b"{}"),
        {"content_type": ""},
        "FlowService",
        flow_pb.SignWebhookRequest(flow_id="hello", base_url="https://h", body=b"{}"),
        {"method": "PUT", "validity": convert.duration(300.0)},
        SignedRequest("PUT", "", (), b"", "", "", 300.0, None),
    ),
    MethodCase(
        "flows.apply",
        ([b"a"],),
        {"dry_run": True},
        "FlowService",
        flow_pb.ApplyFlowsRequest(documents=[b"a"], dry_run=True),
        {"flows": [APPLIED_PB]},
        [AppliedFlow(FLOW, Change.UPDATED, ("w",))],
    ),
    MethodCase(
        "flows.get",
        ("hello",),
        {"revision": 3},
        "FlowService",
        flow_pb.GetFlowRequest(flow_id="hello", revision=3),
        {"flow": FLOW_PB},
        FLOW,
    ),
    *(
        MethodCase(f"flows.{name}", ("hello",), {}, "FlowService", request(flow_id="hello"), response, result)
        for name, request, response, result in [
            ("pause", flow_pb.PauseFlowRequest, {"flow": FLOW_PB}, FLOW),
            ("resume", flow_pb.ResumeFlowRequest, {"flow": FLOW_PB}, FLOW),
            ("delete", flow_pb.DeleteFlowRequest, {}, None),
        ]
    ),
]
SECRETS = [
    MethodCase(
        "secrets.set",
        ("key", b"v"),
        {},
        "SecretService",
        secret_pb.SetSecretRequest(name="key", value=b"v"),
        {"secret": SECRET_PB},
        SECRET,
    ),
    MethodCase(
        "secrets.list", (), {}, "SecretService", secret_pb.ListSecretsRequest(), {"secrets": [SECRET_PB]}, [SECRET]
    ),
    MethodCase("secrets.delete", ("key",), {}, "SecretService", secret_pb.DeleteSecretRequest(name="key"), {}, None),
    MethodCase(
        "secrets.resolve",
        (["key"],),
        {"flow_id": "hello"},
        "SecretService",
        secret_pb.ResolveSecretsRequest(names=["key"], flow_id="hello"),
        {"values": {"key": b"v"}},
        {"key": b"v"},
    ),
]
EXECUTIONS = [
    MethodCase(
        "executions." + name, ("evt_1",), options, "ExecutionService", request, {"execution": EXECUTION_PB}, EXECUTION
    )
    for name, options, request in [
        (
            "replay",
            {"request_id": "k"},
            REPLAY(execution_id="evt_1", revision=REPLAY.REVISION_PINNED, start=REPLAY.START_BEGINNING, request_id="k"),
        ),
        (
            "replay",
            {"options": ReplayOptions(latest=True, from_failed=True), "request_id": "k", "unless_replayed": True},
            REPLAY(
                execution_id="evt_1",
                revision=REPLAY.REVISION_LATEST,
                start=REPLAY.START_FAILED_TASK,
                request_id="k",
                unless_replayed=True,
            ),
        ),
        ("resolve", {"reason": "known"}, execution_pb.ResolveExecutionRequest(execution_id="evt_1", reason="known")),
        ("cancel", {}, execution_pb.CancelExecutionRequest(execution_id="evt_1")),
        ("suspend", {}, execution_pb.SuspendExecutionRequest(execution_id="evt_1")),
        ("resume", {}, execution_pb.ResumeExecutionRequest(execution_id="evt_1")),
    ]
]
OTHERS = [
    MethodCase(
        "rejections.get",
        ("r1",),
        {},
        "RejectionService",
        rejection_pb.GetRejectionRequest(rejection_id="r1"),
        {"rejection": REJECTION_PB},
        from_proto(REJECTION_PB, RejectedRequest),
    ),
    *(
        MethodCase(
            "cluster.processes",
            (),
            options,
            "ClusterService",
            cluster_pb.GetClusterRequest(without_metrics=without),
            {"processes": [PROCESS_PB]},
            [PROCESS],
        )
        for options, without in [({}, False), ({"metrics": False}, True)]
    ),
]


SPEC = JobSpec(JobAction.REPLAY, ExecutionFilter(flow_id="hello"))
JOB = Job("job_1", JobState.RUNNING, SPEC, None, 3, 1, 1, 1, 0)
JOB_PB = to_proto(JOB, job_pb.Job)
SPEC_PB = to_proto(SPEC, job_pb.JobSpec)
JOBS = [
    MethodCase(
        "jobs.create",
        (SPEC,),
        {"request_id": "k"},
        "JobService",
        job_pb.CreateJobRequest(spec=SPEC_PB, request_id="k"),
        {"job": JOB_PB},
        JOB,
    ),
    MethodCase(
        "jobs.preview",
        (SPEC.filter,),
        {},
        "JobService",
        job_pb.PreviewJobRequest(filter=SPEC_PB.filter),
        {"count": 3, "more": True, "sample": [EXECUTION_PB]},
        JobPreview(3, True, (EXECUTION,)),
    ),
    *(
        MethodCase(f"jobs.{name}", ("job_1",), {}, "JobService", request(job_id="job_1"), {"job": JOB_PB}, JOB)
        for name, request in [
            ("get", job_pb.GetJobRequest),
            ("pause", job_pb.PauseJobRequest),
            ("resume", job_pb.ResumeJobRequest),
            ("abort", job_pb.AbortJobRequest),
        ]
    ),
]


@pytest.mark.parametrize("case", [*FLOWS, *SECRETS, *EXECUTIONS, *OTHERS, *JOBS], ids=lambda case: case.method)
def test_a_method_sends_its_arguments_with_the_token_and_returns_what_the_response_holds(router, case):
    pending = router.start(case.method, *case.arguments, **case.options)

    name = type(case.request).__name__.removesuffix("Request")
    sent, metadata = router.answer(f"{case.service}.{name}", **case.response)

    assert sent == case.request
    assert metadata["authorization"] == "Bearer fhk_t"
    assert pending.result() == case.result


def test_an_execution_is_returned_with_its_content(router):
    pending = router.start("executions.get", "evt_1")
    sent, _ = router.answer("ExecutionService.GetExecution", execution=EXECUTION_PB, output=b"7")
    assert (sent.execution_id, sent.HasField("max_body_bytes")) == ("evt_1", False)
    assert (pending.result().execution, pending.result().output) == (EXECUTION, b"7")


def test_an_execution_is_returned_with_the_beginning_of_its_body_and_the_size_of_the_whole(router):
    pending = router.start("executions.get", "evt_1", max_body_bytes=0)
    sent, _ = router.answer("ExecutionService.GetExecution", execution=EXECUTION_PB, cut_body_size=9)
    assert (sent.HasField("max_body_bytes"), sent.max_body_bytes) == (True, 0)
    assert (pending.result().event.body, pending.result().body_size, pending.result().cut_body_size) == (b"", 9, 9)
