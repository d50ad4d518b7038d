"""A package, so that `cluster`, a fixture of its scope, ends with its last test."""
