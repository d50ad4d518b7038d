"""Where backups lie, and which of them are removed."""

from __future__ import annotations

import re
import time
from typing import Final

_NAME: Final = re.compile(r"flowhook-(\d{8}T\d{6}Z)\.tar\.zst")
_TIME: Final = "%Y%m%dT%H%M%SZ"


def file_name(seconds: float) -> str:
    """Return the name of a backup that is made at a Unix time."""
    return f"flowhook-{time.strftime(_TIME, time.gmtime(seconds))}.tar.zst"
