"""Acceptance of refused requests after the fix, verified again by an edge."""
