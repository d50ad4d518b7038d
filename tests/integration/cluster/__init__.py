"""A package, so that `processes`, a fixture of its scope, ends with its last test."""
