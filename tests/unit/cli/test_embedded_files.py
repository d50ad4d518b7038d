"""Files beside a flow file become part of it, and no others."""

from __future__ import annotations

import base64

import pytest

from cli.embedding import MAX_BYTES, embed
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


ORDERS = "{call: grpc, with: {proto: {endpoint: PLACE}, " + SERVICE + "}}"


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("file:orders.proto", "EMBEDDED"),
        ("{uri: 'file:orders.proto'}", "{uri: 'EMBEDDED'}"),
        ("&orders file:orders.proto", "&orders EMBEDDED"),
        ('"file:\\u006frders.proto"', "EMBEDDED"),
    ],
)
def test_only_the_key_that_names_the_file_is_replaced(flow, written, given):
    other = "{set: {a: 'file:orders.proto'}}"
    around = f"do:\n  - é: {other}  # file:orders.proto\n  - pay: TASK\n  - b: {other}\n"
    text = HEAD + around.replace("TASK", ORDERS.replace("PLACE", written))
    content = embedded(b'syntax = "proto3";').decode()
    expected = HEAD + around.replace("TASK", ORDERS.replace("PLACE", given.replace("EMBEDDED", content)))
    assert embed(text.encode(), flow).decode() == expected


def test_an_alias_becomes_the_file_and_what_it_stands_for_stays(flow):
    text = HEAD + f"do:\n  - a: {{set: {{b: &f file:orders.proto}}}}\n  - pay: {ORDERS.replace('PLACE', '*f')}\n"
    given = text.replace("*f", embedded(b'syntax = "proto3";').decode())
    assert embed(text.encode(), flow).decode() == given


def test_each_file_that_is_missing_is_named_with_its_line_and_key(flow):
    pay = "".join(f"  - {name}: {ORDERS.replace('PLACE', f'file:{name}.proto')}\n" for name in ("a", "orders", "b"))
    flow.write_text(f"{HEAD}do:\n{pay}")
    assert [(fault.line, fault.key, fault.cause) for fault in check_flow_files([flow])[1]] == [
        (3, "do[0].a.with.proto.endpoint", "file:a.proto: No such file or directory"),
        (5, "do[2].b.with.proto.endpoint", "file:b.proto: No such file or directory"),
    ]
