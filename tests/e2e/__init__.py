"""A package, so that fixtures of its scope, the shared clusters, end with its last test."""
