"""Tokens and their verification, private files, and the addresses that may be called."""
