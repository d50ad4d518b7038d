"""Files beside a flow file become part of it, and no others."""

from __future__ import annotations

import base64

import pytest

from cli.embedded_files import MAX_BYTES, embed
from cli.flow_files import check_flow_files, read_flow_file
from flowhook.errors import InvalidError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}\n"
SERVICE = "service: {name: Orders, host: orders.example.org}, method: Pay"
FLOW = HEAD + f"do:\n  - pay: {{call: grpc, with: {{proto: {{endpoint: 'URI'}}, {SERVICE}}}}}  # file:nothing\n"


@pytest.fixture
def flow(tmp_path):
    (tmp_path / "flows" / "protos").mkdir(parents=True)
    (tmp_path / "secret.proto").write_text("secret")
    (tmp_path / "flows" / "orders.proto").write_text('syntax = "proto3";')
    (tmp_path / "flows" / "protos" / "more.proto").write_text("?" * 5)
    (tmp_path / "flows" / "link.proto").symlink_to(tmp_path / "secret.proto")
    (tmp_path / "flows" / "large.proto").write_text("x" * (MAX_BYTES + 1))
    return tmp_path / "flows" / "pay.yaml"


def embedded(content):
    return b"embedded:" + base64.urlsafe_b64encode(content).rstrip(b"=")


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        ("file://orders.proto", b'syntax = "proto3";'),
        ("file:orders.proto", b'syntax = "proto3";'),
        ("FILE://protos/more.proto", b"?????"),
        ("file://protos/../orders.proto", b'syntax = "proto3";'),
    ],
)
def test_a_file_becomes_part_of_the_text_whose_lines_stay(flow, uri, content):
    text = FLOW.replace("URI", uri).encode()
    given = embed(text, flow)
    assert given == FLOW.encode().replace(b"URI", embedded(content))
    flow.write_bytes(text)
    assert read_flow_file(flow) == given
    (read,), faults = check_flow_files([flow])
    assert (read.content, faults) == (given, [])
    assert embed(given, flow) == given


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("file://../secret.proto", "is not in the folder of the flow file"),
        ("file:///etc/passwd", "is not in the folder of the flow file"),
        ("file://link.proto", "is not in the folder of the flow file"),
        ("file://nothing.proto", "No such file or directory"),
        ("file://protos", "Is a directory"),
        ("file://large.proto", f"is larger than {MAX_BYTES} bytes"),
    ],
)
def test_other_files_are_not_read(flow, uri, cause):
    with pytest.raises(InvalidError, match=cause):
        embed(FLOW.replace("URI", uri).encode(), flow)


@pytest.mark.parametrize(
    "task",
    [
        "{set: {a: 'file://orders.proto'}}",
        "{call: http, with: {method: get, endpoint: 'file://orders.proto'}}",
        "{call: grpc, with: {proto: {endpoint: '${ \"file://orders.proto\" }'}, " + SERVICE + "}}",
    ],
)
def test_what_is_no_document_of_a_call_stays(flow, task):
    text = f"{HEAD}do:\n  - a: {task}\n".encode()
    assert embed(text, flow) == text
    assert embed(b"file: [", flow) == b"file: ["
