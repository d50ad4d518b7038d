"""Traces are configured by OpenTelemetry's variables, and a value that is not supported is named."""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.tracing import configuration
from flowhook.tracing.configuration import EXPORTERS, GRPC, HTTP, configured

OVER_GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": GRPC}


@cases(
    "variables",
    [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}],
)
def test_variables_turn_it_off(variables):
    assert configured({}, enabled=True) is not None
    assert configured(variables, enabled=True) is None
    assert configured({}, enabled=False) is None


@cases(
    ("variables", "ratio"),
    [
        ({}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1e-3"}, 0.001),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, 1.0),
    ],
)
def test_the_sampler_is_a_share_of_new_traces(variables, ratio):
    assert configured(variables, enabled=True).ratio == ratio


@cases(
    ("variables", "named"),
    [
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "much"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        ({"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none", **OVER_GRPC}, "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "inf"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "-1"}, "OTEL_BSP_SCHEDULE_DELAY"),
    ],
)
def test_a_value_that_is_not_supported_is_named(variables, named):
    with pytest.raises(InvalidError, match=named) as refused:
        configured(variables, enabled=True)

    assert refused.value.reason == "TRACES_INVALID"


def test_the_protocol_of_traces_goes_before_that_of_all_signals():
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}

    assert configured({}, enabled=True).protocol == HTTP
    assert configured(both, enabled=True).protocol == GRPC


@cases(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5", **OVER_GRPC},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate"},
    ],
)
def test_what_the_exporter_of_the_protocol_knows_is_supported(variables):
    assert configured(variables, enabled=True) is not None


@cases("missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp", EXPORTERS[GRPC]])
def test_what_is_not_installed_is_to_be_installed(monkeypatch, missing):
    def find(name):
        if name == missing:
            return None
        if name.startswith(f"{missing}."):
            raise ModuleNotFoundError(name)
        return name

    monkeypatch.setattr(configuration, "find_spec", find)
    with pytest.raises(InvalidError, match=r"install flowhook\[otel\]"):
        configured(OVER_GRPC, enabled=True)
    assert configured(OVER_GRPC, enabled=False) is None


def test_headers_of_the_exporter_are_not_shown():
    made = configured({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=very-secret"}, enabled=True)

    assert made.variables["OTEL_EXPORTER_OTLP_HEADERS"] == "api-key=very-secret"
    assert "very-secret" not in repr(made)
