import pytest

from flowhook.document.size import parse_size
from flowhook.errors import InvalidError


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("7B", 7),
        ("1kB", 1000),
        ("1KB", 1000),
        ("512KiB", 524_288),
        ("10MiB", 10_485_760),
        ("10 MiB", 10_485_760),
        ("1MB", 1_000_000),
        ("1GiB", 1_073_741_824),
    ],
)
def test_a_size_is_a_number_of_bytes(value, size):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "10 ", "1.5MiB", "-1", "10mib", "10M", "MiB", "10  MiB", " 1", "1e3", -1, True, 1.5, None, [1]]
)
def test_anything_else_is_refused(value):
    with pytest.raises(InvalidError, match="expected a size such as 10MiB") as caught:
        parse_size(value)
    assert caught.value.reason == "SIZE_INVALID"
