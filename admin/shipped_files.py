"""The documentation and the example flows, as they ship with the package.

A wheel has them in `admin/shipped`, where `hatch_build.py` puts them; a clone has them where they are written. Imports
nothing but the standard library: the build reads `PATTERNS` from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# files, relative to the repository; of the pictures those that a page shows
PATTERNS: Final = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "docs/*.svg",
    "docs/*/*.md",
    "docs/screenshots/diagnosis-light.png",
    "docs/screenshots/executions-light.png",
    "docs/screenshots/path-light.png",
    "docs/screenshots/timeline-light.png",
    "examples/*.yaml",
)
FOLDER: Final = "admin/shipped"  # where a wheel has them


def shipped_paths(root: Path) -> list[str]:
    found = {path.relative_to(root).as_posix() for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(found)


def read_shipped() -> dict[str, bytes]:
    """Return the content of the files by path, as in the repository. Blocking: reads about 1 MiB."""
    package = Path(__file__).parent
    root = package / "shipped" if (package / "shipped").is_dir() else package.parent
    return {path: (root / path).read_bytes() for path in shipped_paths(root)}
