"""What the edge's refusals must look like."""

from __future__ import annotations


def refusal(answer):
    """Return status and reason of an answer, which has to be a whole problem document (RFC 9457)."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert set(problem) == {"type", "title", "status", "reason", "detail"}
    return answer.status, problem["reason"]
