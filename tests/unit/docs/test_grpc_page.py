"""docs/grpc.md says what the comments of the protos say. `FLOWHOOK_RENEW_DOCS=1` renews it."""

from __future__ import annotations

import os
import re
from importlib import resources

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from support import pages

PAGE = pages.DOCS / "grpc.md"
PACKAGE = ".flowhook.v1."
INTERNAL = {"ClusterService", "RunnerService", "ShardService"}
"""Services that only processes of Flowhook call: their methods are listed, their messages are not."""

HEAD = """# The gRPC API

This page is generated from the protos in [`protos/flowhook/v1`](../protos/flowhook/v1). [Clients](clients.md)
says how to call these services, from Python and from other languages, and which scope of a token each
part needs.

| service | what it is for |
|---|---|
"""


class Protos:
    """The files of the package with their comments."""

    def __init__(self, descriptors):
        self.services, self.messages, self.enums = [], {}, {}
        for file in descriptors.file:
            if f".{file.package}." != PACKAGE:
                continue
            self._comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
            self._trailing = {tuple(each.path): each.trailing_comments for each in file.source_code_info.location}
            self.services += [
                (each, self.comment(6, index), [self.comment(6, index, 2, at) for at in range(len(each.method))])
                for index, each in enumerate(file.service)
            ]
            for index, each in enumerate(file.message_type):
                self._add(each, "", (4, index))
            for index, each in enumerate(file.enum_type):
                self._add_enum(each, "", (5, index))

    def comment(self, *path):
        return (self._comments.get(path, "") or self._trailing.get(path, "")).strip()

    def _add(self, message, prefix, path):
        name = prefix + message.name
        fields = [(each, self.comment(*path, 2, at)) for at, each in enumerate(message.field)]
        self.messages[name] = (message, self.comment(*path), fields)
        for at, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                self._add(nested, f"{name}.", (*path, 3, at))
        for at, nested in enumerate(message.enum_type):
            self._add_enum(nested, f"{name}.", (*path, 4, at))

    def _add_enum(self, enum, prefix, path):
        values = [(each, self.comment(*path, 2, at)) for at, each in enumerate(enum.value)]
        self.enums[prefix + enum.name] = (enum, self.comment(*path), values)


@pytest.fixture(scope="module")
def protos(tmp_path_factory):
    written = tmp_path_factory.mktemp("protos") / "set.binpb"
    include = [f"-I{pages.ROOT / 'protos'}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    files = sorted(str(path) for path in (pages.ROOT / "protos/flowhook/v1").glob("*.proto"))
    options = ["--include_source_info", "--include_imports", f"--descriptor_set_out={written}"]
    assert protoc.main(["protoc", *include, *options, *files]) == 0
    return Protos(FileDescriptorSet.FromString(written.read_bytes()))


def plain(comment):
    """Return a comment as Markdown: paragraphs on a line each, without HTML outside of code."""
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", comment)]
    return "\n\n".join(
        "`".join(part if at % 2 else part.replace("<", "\\<") for at, part in enumerate(each.split("`")))
        for each in paragraphs
    )


def cell(comment):
    return plain(comment).replace("\n\n", " ").replace("|", "\\|")


def anchor(name):
    return re.sub(r"[^\w-]", "", name.lower())


def named(protos, type_name):
    name = type_name.removeprefix(PACKAGE)
    known = name in protos.messages or name in protos.enums
    return f"[{name}](#{anchor(name)})" if known and type_name.startswith(PACKAGE) else f"`{name.lstrip('.')}`"


def field_type(protos, message, field):
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    entries = {f"{each.name}": each for each in message.nested_type if each.options.map_entry}
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = (field_type(protos, entry, each) for each in entry.field)
        return f"map of {key} to {value}"
    shown = named(protos, field.type_name) if field.type_name else f"`{scalar}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {shown}"
    if field.proto3_optional:
        return f"{shown}, optional"
    return f"{shown}, one of `{message.oneof_decl[field.oneof_index].name}`" if field.HasField("oneof_index") else shown


def reached(protos):
    """Return the messages and enums that methods for clients have, and those in them."""
    found: list[str] = []
    waiting = [
        type_name
        for service, _, _ in protos.services
        if service.name not in INTERNAL
        for method in service.method
        for type_name in (method.output_type, method.input_type)
    ]
    while waiting:
        name = waiting.pop().removeprefix(PACKAGE)
        if name in found or name not in protos.messages.keys() | protos.enums.keys():
            continue
        found.append(name)
        if name in protos.messages:
            message = protos.messages[name][0]
            inner = [message, *message.nested_type]
            waiting += [each.type_name for one in inner for each in one.field if each.type_name]
    return sorted(found)


def page(protos):
    shown = set(reached(protos))
    text = [HEAD.rstrip()]
    services = sorted(protos.services, key=lambda each: (each[0].name in INTERNAL, each[0].name))
    for service, comment, _ in services:
        first = re.split(r"(?<=[.:])\s", plain(comment))[0].rstrip(":")
        text.append(f"| [{service.name}](#{anchor(service.name)}) | {first} |")
    for service, comment, comments in services:
        text += ["", f"## {service.name}", "", plain(comment)]
        if service.name in INTERNAL:
            text += [
                "",
                "Called by processes of Flowhook: " + ", ".join(f"`{each.name}`" for each in service.method) + ".",
            ]
            continue
        for method, said in zip(service.method, comments, strict=True):
            request, response = (named(protos, each) for each in (method.input_type, method.output_type))
            request = f"a stream of {request}" if method.client_streaming else request
            response = f"a stream of {response}" if method.server_streaming else response
            text += ["", f"### {service.name}.{method.name}", "", f"{request} → {response}", "", plain(said)]
    text += ["", "## Messages"]
    for name in sorted(shown & protos.messages.keys()):
        message, comment, fields = protos.messages[name]
        text += ["", f"### {name}", *(["", plain(comment)] if comment else [])]
        if fields:
            text += ["", "| field | type | |", "|---|---|---|"]
            rows = [(each.name, field_type(protos, message, each), cell(said)) for each, said in fields]
            text += [f"| `{field}` | {type_} | {said} |" for field, type_, said in rows]
    text += ["", "## Enums"]
    for name in sorted(shown & protos.enums.keys()):
        _, comment, values = protos.enums[name]
        text += ["", f"### {name}", *(["", plain(comment)] if comment else []), "", "| value | |", "|---|---|"]
        text += [f"| `{each.name}` | {cell(said)} |" for each, said in values]
    return "\n".join(text) + "\n"


def test_the_page_says_what_the_protos_do(protos):
    expected = page(protos)
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        PAGE.write_text(expected, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == expected, "renew it with FLOWHOOK_RENEW_DOCS=1"


def test_everything_for_clients_is_on_the_page_once(protos):
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    methods = {
        f"{service.name}.{method.name}"
        for service, _, _ in protos.services
        if service.name not in INTERNAL
        for method in service.method
    }
    assert len(headings) == len(set(headings)) > 100
    assert methods <= set(headings)
