"""JSON beyond what `orjson` does: bounded in its number of values, or with numbers as they were written."""
