"""docs/tracing.md names the attributes that spans have, and the variables that are read."""

from __future__ import annotations

import re

from support import pages

from flowhook.tracing import tracer
from flowhook.tracing.context import MAX_STATE
from runner.worker import execution_spans

PAGE = pages.text_of("tracing.md")
SOURCES = (
    "edge/webhook/traced.py",
    "flowhook/tracing/tracer.py",
    "runner/components/asyncapi/call.py",
    "runner/components/grpc_call/call.py",
    "runner/outbound/call_trace.py",
    "runner/worker/cluster_components.py",
    "runner/worker/execution_spans.py",
)
NAME = re.compile(r"(?:client|error|flowhook|http|messaging|rpc|server|url|user_agent)(?:\.[a-z_]+)+")


def code():
    return "".join((pages.ROOT / path).read_text() for path in SOURCES)


def test_every_attribute_is_documented_and_no_other():
    used = set(re.findall(rf'"({NAME.pattern})"', code()))
    used |= {f"messaging.destination.{kind}" for kind in ("name", "template")}  # made of both
    section = PAGE.partition("## Spans")[2].partition("\n## ")[0]
    documented = {name for name in re.findall(r"`([^`]+)`", section) if NAME.fullmatch(name)}

    assert documented == used


def test_every_variable_that_is_read_is_documented():
    read = set(re.findall(r'"(OTEL_[A-Z_]+)"', (pages.ROOT / "flowhook/tracing/configuration.py").read_text()))

    said = PAGE.replace("…_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")

    assert {name for name in read if name not in said} == set()


def test_the_limits_are_those_of_the_code():
    limits = PAGE.partition("## Limits")[2]
    assert f"at most {tracer.MAX_TEXT:,} characters" in limits
    assert f"at most {execution_spans.MAX_TASKS:,} spans" in limits
    assert f"at most {execution_spans.MAX_LINKS} links" in limits
    assert f"at most {MAX_STATE} characters" in PAGE.replace("\n", " ")
    assert f"has {tracer.FLUSH_SECONDS:.0f} s for the last" in PAGE.replace("\n", " ")
    assert execution_spans.PARENT_SECONDS == 15 * 60
    assert "within 15 minutes" in PAGE
