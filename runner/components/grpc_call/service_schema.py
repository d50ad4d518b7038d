"""Methods of services, and conversion between JSON and their messages.

Source: https://protobuf.dev/programming-guides/json/ (ProtoJSON).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from flowhook import limits
from runner.interpreter.errors import Kind, fault

_SHOWN: Final = 20
"""Methods that an error lists at most."""
_FIELD: Final = re.compile(r"Failed to parse ([^\s:]+) field: ")
_UNKNOWN: Final = re.compile(r'has no field named "([^"]*)"')


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """A method of a service.

    Attributes:
        path: of its requests, `/package.Service/Method`.
        streams_requests: whether it takes a stream of messages.
        streams_responses: whether it answers with a stream of messages.
    """

    path: str
    streams_requests: bool
    streams_responses: bool
    _input: Descriptor
    _output: Descriptor
    _pool: DescriptorPool

    def encode(self, value: Any) -> bytes:
        """Return a request message, serialized. Blocking.

        Raises:
            TaskFault: `value` does not fit the message type, or is too large (configuration); the error shows no data.
        """
        message = message_factory.GetMessageClass(self._input)()
        try:
            json_format.ParseDict(value, message, descriptor_pool=self._pool)
            encoded: bytes = message.SerializeToString()
        except (json_format.ParseError, TypeError, ValueError) as problem:
            raise fault(Kind.CONFIGURATION, f"grpc: with.arguments{_explain(str(problem))}") from None
        if len(encoded) > limits.MAX_RESULT_BYTES:
            raise fault(Kind.CONFIGURATION, f"grpc: with.arguments is larger than {limits.MAX_RESULT_BYTES} bytes")
        return encoded

    def decode(self, data: bytes) -> Any:
        """Return a response message as JSON: fields by their JSON names, without those at their default. Blocking.

        Raises:
            TaskFault: `data` is not a message of the expected type (communication).
        """
        try:
            message = message_factory.GetMessageClass(self._output).FromString(data)
            return json_format.MessageToDict(message, descriptor_pool=self._pool)
        except DecodeError:
            raise fault(
                Kind.COMMUNICATION, f"{self.path} returned a message that is not a valid {self._output.full_name}"
            ) from None
        except (json_format.Error, TypeError, ValueError):  # the latter: an Any of a type that the schema lacks
            detail = f"{self.path} answered with a {self._output.full_name} that has no form in JSON"
            raise fault(Kind.COMMUNICATION, detail) from None


class ServiceSchema:
    """Services that a set of .proto files describes."""

    def __init__(self, files: Iterable[FileDescriptorProto], shown: str) -> None:
        """Load the files, each after those that it imports; `shown` is the name of their origin in errors.

        Raises:
            TaskFault: the descriptors are inconsistent (configuration).
        """
        self._shown = shown
        self._pool = DescriptorPool()
        try:
            for file in files:
                self._pool.Add(file)
        except (TypeError, ValueError):
            raise fault(Kind.CONFIGURATION, f"the descriptors of {shown} are inconsistent") from None

    def method(self, service: str, name: str) -> GrpcMethod:
        """Return a method.

        Raises:
            TaskFault: there is no such service or method (configuration).
        """
        try:
            found = self._pool.FindServiceByName(service)
        except KeyError:
            raise fault(Kind.CONFIGURATION, f"there is no service {service} in {self._shown}") from None
        method = found.methods_by_name.get(name)
        if method is None:
            known = ", ".join(list(found.methods_by_name)[:_SHOWN])
            raise fault(Kind.CONFIGURATION, f"{service} has no method {name}; it has {known or 'none'}")
        return GrpcMethod(
            f"/{service}/{name}",
            method.client_streaming,
            method.server_streaming,
            method.input_type,
            method.output_type,
            self._pool,
        )


def _explain(problem: str) -> str:
    """Return which field is invalid, from protobuf's message, without the value that the message holds."""
    path = "".join(f".{name}" for name in _FIELD.findall(problem))
    unknown = _UNKNOWN.search(problem)
    return f"{path}: there is no field {unknown[1]!r}" if unknown else f"{path} does not fit its type"
