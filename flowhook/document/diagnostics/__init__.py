"""Validation of flow files: syntax, JSON Schema, semantic rules and warnings, each problem with its line."""
