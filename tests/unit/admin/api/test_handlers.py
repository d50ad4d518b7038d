"""Names of downloaded files."""

from __future__ import annotations

from support.cases import cases

from admin.api.handlers import safe_file_name


@cases(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a"; filename="b\r\nX: 1', "a___filename__b__X__1"),
        ("Grüße.txt", "Gr__e.txt"),
        (".hidden", "hidden"),
        ("...", "attachment"),
        ("", "attachment"),
        ("x" * 300 + ".txt", "x" * 96 + ".txt"),
    ],
)
def test_a_file_name_is_harmless(name, safe):
    assert safe_file_name(name) == safe
