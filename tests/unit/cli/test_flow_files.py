"""Which flow files are applied in one call."""

from __future__ import annotations

from cli import flow_files


def test_a_part_has_a_number_of_files_and_of_bytes_at_most_but_for_one_file_that_is_larger(monkeypatch):
    monkeypatch.setattr(flow_files, "PART_FILES", 3)
    monkeypatch.setattr(flow_files, "PART_BYTES", 10)

    def sizes(*files):
        contents = [b"x" * size for size in files]
        return [[len(content) for content in contents[part]] for part in flow_files.parts(contents)]

    assert sizes() == []
    assert sizes(1) == [[1]]
    assert sizes(1, 2, 3, 4) == [[1, 2, 3], [4]]
    assert sizes(5, 5, 1, 9, 1, 1) == [[5, 5], [1, 9], [1, 1]]
    assert sizes(11, 1, 12, 13) == [[11], [1], [12], [13]]
