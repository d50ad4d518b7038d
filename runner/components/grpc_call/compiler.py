"""Compiles a .proto with protoc, in a separate process with its own limits (`compile_proto`)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from flowhook import limits
from runner.interpreter.errors import Kind, fault

MAX_SOURCE_BYTES: Final = 256 * limits.KIB
SECONDS: Final = 10.0
"""Timeout, including the start of the process."""

_PROGRAM: Final = Path(__file__).with_name("compile_proto.py")


async def compile_proto(source: bytes, shown: str) -> bytes:
    """Return a serialized FileDescriptorSet, in which imported files precede those that import them.

    `shown` is the name of the source in errors.

    Cancellation kills the process.

    Raises:
        TaskFault: the source is too large or does not compile (configuration), or takes too long (timeout).
    """
    if len(source) > MAX_SOURCE_BYTES:
        raise fault(Kind.CONFIGURATION, f"{shown} is larger than {MAX_SOURCE_BYTES} bytes")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
        cwd="/",
    )
    try:
        async with asyncio.timeout(SECONDS):
            compiled, complaint = await process.communicate(source)
    except TimeoutError:
        raise fault(Kind.TIMEOUT, f"{shown}: protoc did not finish within {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip() or "protoc failed"
        raise fault(Kind.CONFIGURATION, f"{shown} does not compile: {reason}")
    return compiled
