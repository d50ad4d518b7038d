"""Secrets: their encryption, which flows name them, and keys that are derived from the key of secrets."""
