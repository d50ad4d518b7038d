"""Calls a component in its own tests as a runner would: docs/testing-components.md."""

from runner.components.testing import Answer, Received, call, context, receiver

__all__ = ["Answer", "Received", "call", "context", "receiver"]
