"""Compiles a .proto with protoc. It imports little, since a sandbox imports it on demand.

A .proto can import the files that come with gRPC and with googleapis-common-protos: `google/protobuf/*.proto`,
`google/api/annotations.proto` and the like. protoc itself rejects absolute paths and `..`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError

MAX_DESCRIPTOR_BYTES: Final = 2 * limits.MIB
MAX_COMPLAINT_BYTES: Final = 2 * limits.KIB

NAME: Final = "service.proto"

PROTOC_MISSING: Final = (
    "this runner has no protoc: install flowhook[proto] where runners run, or leave out `proto`, so that the server is "
    "asked for its description by reflection"
)


def compile_source(source: bytes) -> Iterator[bytes]:
    """Yield a serialized FileDescriptorSet. Creates no named files."""
    import google.rpc  # noqa: PLC0415 - the sandbox needs these, and not the process that names this function

    try:
        import grpc_tools  # noqa: PLC0415
        from grpc_tools import protoc  # noqa: PLC0415
    except ImportError:
        raise InvalidError(PROTOC_MISSING, reason="PROTOC_MISSING") from None

    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as compiled, tempfile.TemporaryFile() as said:
        given.write(source)
        given.flush()
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)  # protoc writes there directly, without a limit
        try:
            code = protoc.main(
                [
                    "protoc",
                    f"-I{NAME}=/dev/fd/{given.fileno()}",
                    f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                    f"-I{Path(google.rpc.__path__[0]).parents[1]}",
                    "--include_imports",
                    f"--descriptor_set_out=/dev/fd/{compiled.fileno()}",
                    NAME,
                ]
            )
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        if code:
            said.seek(0)
            complaint = said.read(MAX_COMPLAINT_BYTES).decode(errors="replace").strip() or "protoc failed"
            raise InvalidError(complaint.replace(f"/dev/fd/{given.fileno()}", NAME), reason="PROTO_INVALID")
        compiled.seek(0)
        result = compiled.read(MAX_DESCRIPTOR_BYTES + 1)
    if len(result) > MAX_DESCRIPTOR_BYTES:
        raise InvalidError(f"what it compiles to is larger than {MAX_DESCRIPTOR_BYTES} bytes", reason="PROTO_INVALID")
    yield result
