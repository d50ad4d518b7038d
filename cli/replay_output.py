"""Formats previews of replays for the terminal and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from flowhook.model import Execution
from flowhook.model.jobs import SampledReplay
from flowhook.model.replays import ReplayedTask, ReplayPreview

SAMPLE_COLUMNS: Final = ("EXECUTION", "REVISION", "TAKEN OVER", "RUN AGAIN", "NOT REPLAYED")

MAX_NAMED: Final = 5
"""Tasks that a cell names at most."""


def preview_as_json(preview: ReplayPreview) -> dict[str, Any]:
    """Return the JSON representation of a preview."""
    return {
        "revision": preview.flow_revision,
        "latest_revision": preview.latest_revision or None,
        "keeps_idempotency_keys": preview.keeps_idempotency_keys,
        "taken_over": [each._asdict() for each in preview.taken_over],
        "again": [each._asdict() for each in preview.again],
    }


def preview_rows(preview: ReplayPreview) -> list[tuple[object, ...]]:
    """Return the tasks of a preview as rows: what becomes of them, their path and their kind."""
    return [
        *(("taken over", each.task, each.kind) for each in preview.taken_over),
        *(("runs again", each.task, each.kind) for each in preview.again),
    ]


def sampled_as_json(sampled: SampledReplay) -> dict[str, Any]:
    """Return the JSON representation of what the replay of one execution by a job would do."""
    preview = None if sampled.preview is None else preview_as_json(sampled.preview)
    return {"preview": preview, "reason": sampled.reason or None, "message": sampled.message or None}


def sampled_rows(sample: Sequence[Execution], replays: Sequence[SampledReplay]) -> Iterator[tuple[object, ...]]:
    """Yield what the replays of executions by a job would do, as rows for `SAMPLE_COLUMNS`."""
    for execution, sampled in zip(sample, replays, strict=True):
        preview = sampled.preview
        if preview is None:
            yield execution.id, None, "", "", f"{sampled.reason}: {sampled.message}"
        else:
            yield execution.id, preview.flow_revision, _named(preview.taken_over), _named(preview.again), ""


def _named(tasks: Sequence[ReplayedTask]) -> str:
    names = [each.task for each in tasks[:MAX_NAMED]]
    return ", ".join([*names, "…"] if len(tasks) > MAX_NAMED else names)
