"""Metrics of one process."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from flowhook.process import metrics


def test_a_process_reports_its_cpu_memory_and_files():
    families = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= families


def test_there_is_one_registry_a_process():
    assert metrics.registry() is metrics.registry()
