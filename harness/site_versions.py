"""Puts a built site into a folder by its version, beside those of the other versions, for the site's selector.

Run: python3 -m harness.site_versions build/site pages 0.2.0

`pages` is what is published: a folder for each version, `latest`, which is the newest release, `versions.json`,
and an `index.html` that leads to `latest`. It takes no package, and what is there of a version is replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Final

LATEST: Final = "latest"
_INDEX: Final = f"""\
<!DOCTYPE html>
<meta charset="utf-8">
<title>Flowhook</title>
<meta http-equiv="refresh" content="0; url={LATEST}/">
<a href="{LATEST}/">Flowhook</a>
"""


def add_version(site: Path, pages: Path, version: str) -> None:
    """Put a copy of a site into the pages. `version`: that of a release, or the name of a branch."""
    if not re.fullmatch(r"\w[\w.-]*", version) or version == LATEST:
        raise ValueError(f"{version!r} can't be the name of a version's folder")
    shutil.rmtree(pages / version, ignore_errors=True)
    shutil.copytree(site, pages / version)
    versions = sorted((path.parent.name for path in pages.glob("*/index.html")), key=_age, reverse=True)
    versions = [each for each in versions if each != LATEST]
    (pages / LATEST).unlink(missing_ok=True)
    (pages / LATEST).symlink_to(versions[0])  # what uploads the pages follows it
    entries = [{"version": each, "title": each, "aliases": [LATEST] * (each == versions[0])} for each in versions]
    (pages / "versions.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
    (pages / "index.html").write_text(_INDEX, encoding="utf-8")
    (pages / ".nojekyll").touch()


def _age(version: str) -> tuple[bool, list[int]]:
    """Return what sorts the newest release last, and what is no release, such as `main` and 0.2.0rc1, before all."""
    return bool(re.fullmatch(r"\d+(\.\d+)*", version)), [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    add_version(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
