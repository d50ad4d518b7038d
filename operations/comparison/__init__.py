"""Compares two executions: their requests, their tasks and their results. Pure.

- `json_diff`: the differences of two JSON values, by path; numbers are compared as they were written.
- `content_diff`: the difference of two bodies or outputs: JSON, text or bytes.
- `execution_diff`: the difference of two executions.

Everything is bounded: what is not compared, or not listed, is said so. It blocks for up to a second with two bodies of
1 MiB, so that processes with an event loop call it in a thread.
"""

from operations.comparison.content_diff import MAX_COMPARED, ContentDiff, compare_content
from operations.comparison.execution_diff import ExecutionDiff, compare_executions
from operations.comparison.json_diff import Difference

__all__ = ["MAX_COMPARED", "ContentDiff", "Difference", "ExecutionDiff", "compare_content", "compare_executions"]
