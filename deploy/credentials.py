"""Creates the tokens and the key of secrets, as the routers of one cluster share them, and copies them to processes.

    credentials.py ALL [FOLDER:FILE,FILE …]

Creates what is missing in the folder ALL: `tokens.json`, `admin.token`, `edge.token`, `runner.token`, `view.token` and
`secrets.key`; what is there stays as it is. Then each FOLDER receives copies of the files that are named, for the user
of the image if this runs as root.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from flowhook.security.private_files import make_directory, write_private
from flowhook.security.tokens import ensure_tokens
from router.storage.encryption import load_secrets_key

OWNER: Final = 10001
"""User and group of the image's processes."""


def distribute(source: Path, folder: Path, names: list[str]) -> None:
    """Copy files into a folder, and make it and them accessible to their user only."""
    make_directory(folder)
    folder.chmod(0o700)
    for name in names:
        write_private(folder / name, (source / name).read_bytes())
    if os.geteuid() == 0:
        for path in (folder, *(folder / name for name in names)):
            os.chown(path, OWNER, OWNER)


def main(arguments: list[str]) -> None:
    """Do what the description of this module says."""
    source = Path(arguments[0])
    ensure_tokens(source)
    load_secrets_key(source)
    for argument in arguments[1:]:
        folder, _, names = argument.partition(":")
        distribute(source, Path(folder), [name for name in names.split(",") if name])


if __name__ == "__main__":
    main(sys.argv[1:])
