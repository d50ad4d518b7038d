"""Configuration of traces: the switch `FLOWHOOK_TRACES`, and OpenTelemetry's own variables, `OTEL_*`.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/,
https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final

from flowhook.errors import InvalidError

PREFIX: Final = "OTEL_"
GRPC: Final = "grpc"
HTTP: Final = "http/protobuf"
EXPORTERS: Final = {GRPC: "opentelemetry.exporter.otlp.proto.grpc", HTTP: "opentelemetry.exporter.otlp.proto.http"}

_SAMPLERS: Final[Mapping[str, float | None]] = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}  # None: ARG
_PARENT_BASED: Final = "parentbased_"
_COMPRESSIONS: Final = {GRPC: ("gzip",), HTTP: ("gzip", "deflate", "none")}  # that the exporters know
_MAX_TIMEOUT: Final = 3600.0


@dataclass(frozen=True, slots=True)
class TracesConfiguration:
    """What a process that exports spans has to know."""

    ratio: float  # share of new traces that are recorded, in [0, 1]
    protocol: str  # of OTLP: GRPC or HTTP
    queue_size: int  # spans that wait to be exported at most
    batch_size: int  # spans in one request at most
    delay: float  # seconds that a span waits for others
    variables: Mapping[str, str] = field(repr=False)  # all of `OTEL_*`; those for headers may have secrets


def configured(variables: Mapping[str, str] | None = None, *, enabled: bool) -> TracesConfiguration | None:
    """Return the configuration that variables have, by default those of this process; None: nothing is exported.

    Raises:
        InvalidError: a variable has a value that is not supported, or packages are missing (`TRACES_INVALID`).
    """
    given = os.environ if variables is None else variables
    found = {name: value for name, value in given.items() if name.startswith(PREFIX) and value}
    disabled = found.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not enabled or disabled or found.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return None
    if found.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        raise _invalid("OTEL_TRACES_EXPORTER is otlp or none")
    protocol = found.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or found.get("OTEL_EXPORTER_OTLP_PROTOCOL") or HTTP
    if protocol not in (GRPC, HTTP):
        raise _invalid(f"OTEL_EXPORTER_OTLP_PROTOCOL is {GRPC} or {HTTP}")
    for prefix in ("OTEL_EXPORTER_OTLP", "OTEL_EXPORTER_OTLP_TRACES"):  # else one exporter raises, the other ignores it
        if found.get(f"{prefix}_COMPRESSION", "gzip").strip().lower() not in _COMPRESSIONS[protocol]:
            raise _invalid(f"with {protocol}, {prefix}_COMPRESSION is {' or '.join(_COMPRESSIONS[protocol])}, or unset")
        _between(found, f"{prefix}_TIMEOUT", "10", _MAX_TIMEOUT)
    if not all(map(_is_installed, ("opentelemetry.sdk", EXPORTERS[protocol]))):
        raise _invalid("FLOWHOOK_TRACES needs packages: install flowhook[otel], or unset it")
    size = _number(found, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    return TracesConfiguration(
        ratio=_ratio(found),
        protocol=protocol,
        queue_size=size,
        batch_size=min(size, _number(found, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        delay=_number(found, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        variables=found,
    )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # one that it is in is not
        return False


def _ratio(variables: Mapping[str, str]) -> float:
    name = variables.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    sampler = name.removeprefix(_PARENT_BASED)
    if sampler not in _SAMPLERS:
        raise _invalid(f"OTEL_TRACES_SAMPLER is one of {', '.join(_SAMPLERS)}, also with {_PARENT_BASED} before it")
    ratio = _SAMPLERS[sampler]
    if ratio is not None:
        return ratio
    return _between(variables, "OTEL_TRACES_SAMPLER_ARG", "1", 1)


def _between(variables: Mapping[str, str], name: str, default: str, most: float) -> float:
    try:
        given = float(variables.get(name, default))
    except ValueError:
        given = -1.0
    if not 0 <= given <= most:
        raise _invalid(f"{name} is a number from 0 to {most:g}")
    return given


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):  # noqa: PLR2004 - digits
        raise _invalid(f"{name} is a whole number above 0")
    return int(text)


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, reason="TRACES_INVALID")
