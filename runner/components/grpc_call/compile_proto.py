"""Compiles one .proto in a separate process: `python -I compile_proto.py`, with the source on stdin.

Writes a serialized FileDescriptorSet to stdout, in which imported files precede those that import them. On an error, it
exits with 1 and writes the reason to stderr. It imports nothing of Flowhook, so that it starts quickly, and creates no
named files.

A .proto can import the files that come with gRPC and with googleapis-common-protos: `google/protobuf/*.proto`,
`google/api/annotations.proto` and the like. protoc itself rejects absolute paths and `..`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

NAME = "service.proto"
CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
FILE_BYTES = 8 << 20
MAX_DESCRIPTOR_BYTES = 2 << 20
MAX_COMPLAINT_BYTES = 2048


def main() -> int:
    """Compile the source on stdin; returns the exit code."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # not every event loop closes files that must not be inherited
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # not every system supports each of them
            resource.setrlimit(limit, (most, most))
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as compiled, tempfile.TemporaryFile() as said:
        source.write(sys.stdin.buffer.read())
        source.flush()
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)  # protoc writes there directly, without a limit
        code = protoc.main(
            [
                "protoc",
                f"-I{NAME}=/dev/fd/{source.fileno()}",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                f"-I{Path(google.rpc.__path__[0]).parents[1]}",
                "--include_imports",
                f"--descriptor_set_out=/dev/fd/{compiled.fileno()}",
                NAME,
            ]
        )
        os.dup2(stderr, 2)
        said.seek(0)
        complaint = said.read(MAX_COMPLAINT_BYTES).decode(errors="replace")
        compiled.seek(0)
        result = compiled.read(MAX_DESCRIPTOR_BYTES + 1)
        if code == 0 and len(result) > MAX_DESCRIPTOR_BYTES:
            code, complaint = 1, f"what it compiles to is larger than {MAX_DESCRIPTOR_BYTES} bytes"
        if code:
            sys.stderr.write(complaint.replace(f"/dev/fd/{source.fileno()}", NAME))
            return 1
        sys.stdout.buffer.write(result)
        return 0


if __name__ == "__main__":
    sys.exit(main())
