from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.signatures.timestamps import check_timestamp, format_timestamp
from flowhook.signatures.types import SignatureError

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def reason(sent, unit):
    with pytest.raises(SignatureError) as refusal:
        check_timestamp(sent, unit, 300.0, NOW)
    return refusal.value.reason


@cases(
    ("sent", "unit"),
    [
        (b"1700000000", "s"),
        (b"1700000300", "s"),
        (b"1699999700", "s"),
        (b"1700000000999", "ms"),
        (b"2023-11-14T22:13:20Z", "rfc3339"),
        (b"2023-11-14t23:13:20.123456789+01:00", "rfc3339"),
        (b"2023-11-14 17:13:20-05:00", "rfc3339"),
    ],
)
def test_a_time_near_ours_passes(sent, unit):
    check_timestamp(sent, unit, 300.0, NOW)


@cases(
    ("sent", "unit"),
    [
        (b"1699999699", "s"),
        (b"1700000301", "s"),
        (b"0", "s"),
        (b"1700000000", "ms"),
        (b"1700000000000"[:12], "s"),
        (b"1700000300001", "ms"),
        (b"0001-01-01T00:00:00+23:59", "rfc3339"),
        (b"9999-12-31T23:59:59-23:59", "rfc3339"),
    ],
)
def test_a_time_far_from_ours_is_stale(sent, unit):
    assert reason(sent, unit) == "TIMESTAMP_STALE"


@cases(
    ("sent", "unit"),
    [
        *(
            (sent, "s")
            for sent in (b"", b"nan", b"inf", b"1e400", b"-1", b"+1", b"1.5", b"1_0", b" 1", b"0x1", b"\xb2")
        ),
        ("\N{ARABIC-INDIC DIGIT ONE}\N{FULLWIDTH DIGIT SEVEN}".encode(), "s"),
        (b"1700000000\n", "s"),
        (b"9" * 5000, "s"),
        (b"9" * 16, "ms"),
        (b"2023-11-14", "rfc3339"),
        (b"2023-11-14T22:13:20", "rfc3339"),
        (b"2023-02-30T22:13:20Z", "rfc3339"),
        (b"2023-11-14T24:13:20Z", "rfc3339"),
        (b"2023-11-14T22:13:20+99:99", "rfc3339"),
        (b"0000-01-01T00:00:00Z", "rfc3339"),
    ],
)
def test_what_is_no_time_is_malformed(sent, unit):
    assert reason(sent, unit) == "TIMESTAMP_MALFORMED"


@pytest.mark.parametrize("unit", ["s", "ms", "rfc3339"])
def test_a_sender_writes_what_a_receiver_reads(unit):
    check_timestamp(format_timestamp(NOW + 0.25, unit).encode(), unit, 0.5, NOW)
