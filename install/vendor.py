"""Renews the vendored files of the console from npm, as their manifest says (`make vendor`); needs npm.

To take another version, change `version` in the manifest and remove `integrity`: it is then written anew. CodeMirror
consists of many modules, of which esbuild makes one file: their versions stand in `install/editor/package.json`, and
the hashes of their packages in its lock file, which `npm install` renews.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "admin" / "console" / "static" / "vendor"
MANIFEST: Final = FOLDER / "manifest.json"

EDITOR: Final = Path(__file__).parent / "editor"
BUNDLE: Final = "codemirror.min.js"
LICENSE: Final = "codemirror.LICENSE"


def sha512(content: bytes) -> str:
    """Return a hash as npm writes it. Source: W3C, Subresource Integrity."""
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def bundle(package: dict[str, Any]) -> None:
    """Make one file of CodeMirror, and write its licence."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "editor"
        shutil.copytree(EDITOR, work)
        esbuild = ["npx", "esbuild", "bundle.js", "--bundle", "--format=esm", "--minify", f"--outfile={BUNDLE}"]
        for command in (["npm", "ci", "--ignore-scripts"], [*esbuild, "--legal-comments=none", "--log-level=warning"]):
            subprocess.run(command, check=True, cwd=work, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        shutil.copy(work / BUNDLE, FOLDER / BUNDLE)
        shutil.copy(work / "node_modules" / "@codemirror" / "view" / "LICENSE", FOLDER / LICENSE)
    package["integrity"] = sha512((EDITOR / "package-lock.json").read_bytes())
    package["files"] = [{"name": name, "sha512": sha512((FOLDER / name).read_bytes())} for name in (BUNDLE, LICENSE)]


def main() -> int:
    """Fetch each package and write its files; refuse a package whose content is not that of the manifest."""
    packages = json.loads(MANIFEST.read_text())
    for package in packages:
        if package["name"] == "codemirror":
            bundle(package)
            continue
        name = f"{package['name']}@{package['version']}"
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", "--pack-destination", folder, name]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)  # noqa: S603 - of our manifest
            [archive] = Path(folder).glob("*.tgz")
            integrity = sha512(archive.read_bytes())
            if package.setdefault("integrity", integrity) != integrity:
                print(f"{name}: the package has {integrity}, not what the manifest says", file=sys.stderr)  # noqa: T201
                return 1
            with tarfile.open(archive) as content:
                for file in package["files"]:
                    member = content.extractfile(f"package/{file['source']}")
                    data = b"" if member is None else member.read()
                    (FOLDER / file["name"]).write_bytes(data)
                    file["sha512"] = sha512(data)
    MANIFEST.write_text(json.dumps(packages, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
