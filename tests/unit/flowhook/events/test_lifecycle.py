"""What is told of executions is a CloudEvent with the data that the DSL names."""

from dataclasses import replace

import orjson
import pytest
from support.cases import cases

from flowhook import limits
from flowhook.events import cloud_events
from flowhook.events.lifecycle import (
    TYPES,
    CorrelationEventType,
    TaskEventType,
    WorkflowEventType,
    WorkflowIdentity,
    encode_lifecycle_event,
    fingerprint,
    is_reserved_type,
)
from flowhook.model import FailedResponse, WorkflowError

SHOP = WorkflowIdentity("samples", "order-pet", "1.0.0")
ERROR = WorkflowError("https://open-workflow-specification.org/spec/1.0.0/errors/communication", 503, "Away", "/do/0/a")

PUBLISHED = {
    "error": {"type": ERROR.type, "status": 503, "title": "Away", "instance": "/do/0/a"},
    "fingerprint": fingerprint("samples.order-pet", ERROR),
}
STORED = {"outputUri": "/api/executions/evt_x#/output"}


def made(kind, **fields):
    payload = encode_lifecycle_event(
        kind,
        event_id="evt_1",
        flow_id="samples.order-pet",
        execution_id="evt_x",
        definition=SHOP,
        time_ms=1_722_013_197_000,
        **fields,
    )
    return cloud_events.parse(payload)


@cases(
    ("kind", "time", "fields", "more"),
    [
        (WorkflowEventType.STARTED, "startedAt", {}, {}),
        (WorkflowEventType.SUSPENDED, "suspendedAt", {}, {}),
        (WorkflowEventType.RESUMED, "resumedAt", {}, {}),
        (WorkflowEventType.CANCELLED, "cancelledAt", {}, {}),
        (
            WorkflowEventType.FAULTED,
            "faultedAt",
            {"error": ERROR},
            PUBLISHED,
        ),
        (
            WorkflowEventType.FAULTED,
            "faultedAt",
            {"error": replace(ERROR, response=FailedResponse(503, "https://shop.example/", "for us alone", 12))},
            PUBLISHED,
        ),
        (WorkflowEventType.COMPLETED, "completedAt", {"output": b'{"a":1}'}, {"output": {"a": 1}, **STORED}),
        (WorkflowEventType.COMPLETED, "completedAt", {"output": b"null"}, {"output": None, **STORED}),
    ],
    ids=str,
)
def test_each_has_the_data_that_the_dsl_names(kind, time, fields, more):
    event = made(kind, **fields)
    assert event.pop("data") == {
        "name": "order-pet-evt_x.samples",
        "definition": {"namespace": "samples", "name": "order-pet", "version": "1.0.0"},
        time: "2024-07-26T16:59:57.000Z",
        **more,
    }
    assert event == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/flows/samples.order-pet",
        "type": kind.value,
        "subject": "evt_x",
        "time": "2024-07-26T16:59:57.000Z",
        "datacontenttype": "application/json",
    }


@cases(
    ("kind", "time"),
    [
        (TaskEventType.CREATED, "createdAt"),
        (TaskEventType.STARTED, "startedAt"),
        (TaskEventType.RETRIED, "retriedAt"),
        (TaskEventType.CANCELLED, "cancelledAt"),
        (TaskEventType.FAULTED, "faultedAt"),
        (TaskEventType.COMPLETED, "completedAt"),
    ],
)
def test_what_is_reported_of_a_task_names_the_workflow_and_the_task(kind, time):
    event = made(kind, within=b'{"task":"/do/0/a","output":{"b":1}}')
    assert (event["type"], event["subject"]) == (kind.value, "evt_x")
    assert event["data"] == {
        "workflow": "order-pet-evt_x.samples",
        "definition": {"namespace": "samples", "name": "order-pet", "version": "1.0.0"},
        "task": "/do/0/a",
        time: "2024-07-26T16:59:57.000Z",
        "output": {"b": 1},
        **({"outputUri": "/api/executions/evt_x/trace"} if kind is TaskEventType.COMPLETED else {}),
    }


@pytest.mark.parametrize(
    ("kind", "time"), [(CorrelationEventType.STARTED, "startedAt"), (CorrelationEventType.COMPLETED, "completedAt")]
)
def test_what_is_reported_of_a_correlation_names_the_workflow(kind, time):
    data = made(kind, within=b'{"correlationKeys":{"order":7}}')["data"]
    assert data.pop("definition")["name"] == "order-pet"
    expected = {"name": "order-pet-evt_x.samples", time: "2024-07-26T16:59:57.000Z", "correlationKeys": {"order": 7}}
    assert data == expected


def test_these_types_of_the_dsl_are_reported():
    workflow = {"started", "suspended", "resumed", "correlation-started", "correlation-completed"}
    task = {"created", "started", "retried"}
    ends = {"cancelled", "faulted", "completed"}
    assert {f"io.serverlessworkflow.workflow.{each}.v1" for each in workflow | ends} | {
        f"io.serverlessworkflow.task.{each}.v1" for each in task | ends
    } == TYPES


def test_an_output_that_is_too_large_is_left_out():
    largest = b'"%b"' % (b"x" * (limits.MAX_RESULT_BYTES - 2))
    data = made(WorkflowEventType.COMPLETED, output=largest)["data"]
    assert (data.get("output"), data["outputUri"]) == (None, STORED["outputUri"])
    smaller = largest[:1000] + b'"'
    assert made(WorkflowEventType.COMPLETED, output=smaller)["data"]["output"] == orjson.loads(smaller)


@cases("type_", [*sorted(TYPES), "io.serverlessworkflow.task.started.v1", "io.serverlessworkflow.workflow.x"])
def test_their_types_are_retained_for_them(type_):
    assert is_reserved_type(type_)


@pytest.mark.parametrize("type_", ["", "paid", "io.serverlessworkflow.samples.x.v1", "io.serverlessworkflow.workflows"])
def test_others_are_free(type_):
    assert not is_reserved_type(type_)


def test_the_error_of_a_fault_has_the_name_of_its_type_that_the_flow_chose():
    told = made("io.serverlessworkflow.workflow.faulted.v1", error=ERROR, error_types="serverless-workflow")
    assert told["data"]["error"]["type"] == "https://serverlessworkflow.io/spec/1.0.0/errors/communication"


def test_faults_of_one_flow_at_one_task_with_one_status_and_title_are_alike():
    alike = [ERROR, replace(ERROR, detail="another order"), replace(ERROR, type=f"{ERROR.type}/x")]
    assert len({fingerprint("shop", each) for each in alike}) == 1
    others = [replace(ERROR, instance="/do/1/b"), replace(ERROR, status=502), replace(ERROR, title="Gone")]
    found = {fingerprint("shop", ERROR), fingerprint("shop2", ERROR), *(fingerprint("shop", each) for each in others)}
    assert len(found) == 5
    assert all(len(each) == 16 for each in found)
