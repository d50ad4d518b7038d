"""Compiles .proto files in sandboxes (`runner.protoc`)."""

from __future__ import annotations

from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError
from flowhook.process.settings import RunnerSettings
from flowhook.sandbox.offload import Offload
from flowhook.sandbox.worker import TooCostlyError
from runner.interpreter.errors import Kind, fault
from runner.protoc import compile_source

MAX_SOURCE_BYTES: Final = 256 * limits.KIB

CPU_SECONDS: Final = 5.0
"""CPU time for one source."""
MEMORY_BYTES: Final = limits.GIB
"""Memory of a process."""


class ProtoCompiler:
    """The compilers of a runner, a few processes; `components.ClosableResource`."""

    def __init__(self, _settings: RunnerSettings, /) -> None:
        self._offload = Offload("compiling .proto files", seconds=CPU_SECONDS, memory=MEMORY_BYTES)

    async def close(self) -> None:
        """End the processes."""
        await self._offload.aclose()

    async def compile(self, source: bytes, shown: str, owner: str) -> bytes:
        """Return a serialized FileDescriptorSet, in which imported files precede those that import them.

        Args:
            source: the .proto.
            shown: its name in errors.
            owner: for fairness: no owner can occupy all processes.

        Raises:
            TaskFault: the source is too large or does not compile (configuration), or takes too long (timeout).
        """
        if len(source) > MAX_SOURCE_BYTES:
            raise fault(Kind.CONFIGURATION, f"{shown} is larger than {MAX_SOURCE_BYTES} bytes")
        try:
            (compiled,) = await self._offload.run(owner, compile_source, source)
        except (TooCostlyError, ExhaustedError) as problem:
            raise fault(Kind.TIMEOUT, f"{shown}: {problem.message}") from None
        except InvalidError as problem:
            raise fault(Kind.CONFIGURATION, f"{shown} does not compile: {problem.message}") from None
        return compiled
