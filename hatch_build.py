"""Build hooks of both distributions: they generate the stubs of protos/ and the blocking client, and complete metadata.

Generated code is never committed: this runs at every install and build, editable ones included; `make codegen` runs it
by hand. It is also the build backend, hatchling's without the hooks that only tell metadata: those know nothing of the
requirement that `GenerateBuildHook` adds, and uv would believe them.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from hatchling.build import (  # noqa: F401 - the build backend
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parent

NAMES: Final = {
    "AsyncClient": "Client",
    "AsyncTransport": "BlockingTransport",
    "aio": "sync",
    "asyncio_calls": "blocking_calls",
}
"""Names in the asyncio client, and their counterparts in the blocking one; unasync knows those of Python."""

PHRASES: Final = {
    "Asyncio client": "Blocking client",
    "An asyncio client": "A blocking client",
    "for one event loop": "safe to share among threads",
    "an `async with` block": "a `with` block",
}
"""Phrases in docstrings of the asyncio client, and their counterparts in the blocking one."""

REPOSITORY: Final = "FLOWHOOK_REPOSITORY_URL"
"""Variable with the public address of the repository; only who releases knows it, so nothing else names one."""

RELATIVE: Final = re.compile(r"\]\((?:\.\./)*(?![a-z]+:|#)([^)]+)\)")
"""The end of a link to a file of the repository, in Markdown."""

PICTURES: Final = (".gif", ".png", ".svg")


def generate(root: Path = ROOT) -> None:
    """Write all generated code.

    Raises:
        RuntimeError: protoc refused the protos; its messages are on stderr.
    """
    generate_stubs(root)
    generate_blocking_client(root)


def generate_blocking_client(root: Path) -> None:
    """Write `flowhook/client/sync/`: the modules of `flowhook/client/aio/` without `async` and `await`."""
    import unasync  # noqa: PLC0415 - a build requirement, absent when only reading metadata

    package = "flowhook/client/sync"
    rule = unasync.Rule("/flowhook/client/aio/", f"/{package}/", additional_replacements=NAMES)
    sources = sorted((root / "flowhook" / "client" / "aio").glob("*.py"))
    shutil.rmtree(root / package, ignore_errors=True)
    unasync.unasync_files(map(str, sources), [rule])
    for source in sources:
        path = root / package / source.name
        text = path.read_text(encoding="utf-8")
        for phrase, counterpart in PHRASES.items():
            text = text.replace(phrase, counterpart)
        path.write_text(f"# Generated from {source.relative_to(root)}; do not edit.\n{text}", encoding="utf-8")
    (root / package / "__init__.py").write_text('"""The blocking client, generated from `aio`; do not edit."""\n')


def generate_stubs(root: Path, target: Path | None = None) -> None:
    """Write `*_pb2{,_grpc}.py` and their `.pyi` files in `flowhook/v1/` and `flowhook/storage/v1/` of a folder.

    Raises:
        RuntimeError: protoc refused the protos; its messages are on stderr.
    """
    from grpc_tools import protoc  # noqa: PLC0415 - a build requirement, absent when only reading metadata

    target = target or root
    protos = sorted(str(path) for path in (root / "protos").rglob("*.proto"))
    # protoc looks for plugins on PATH, which may not include the build environment's bin folder
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        f"-I{root / 'protos'}",
        f"-I{Path(protoc.__file__).parent / '_proto'}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
    ]
    if plugin.exists():
        arguments += [f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{target}"]
    if protoc.main([*arguments, *protos]) != 0:
        raise RuntimeError("protoc failed; its messages are above")
    for package in ("flowhook/v1", "flowhook/storage", "flowhook/storage/v1"):
        (target / package / "__init__.py").write_text(f'"""Generated from protos/{package}; do not edit."""\n')


class AddressedMetadataHook(MetadataHookInterface):
    """Hatchling metadata hook that links to the repository, if the build is told where that is."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `urls` and `readme`, whose links to other files lead to those of this version."""
        folder, address = Path(self.root), os.environ.get(REPOSITORY, "").rstrip("/")
        text = (folder / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {}
        if address:
            tag = f"v{metadata['version']}"
            metadata["urls"] = {
                "Homepage": address,
                "Documentation": f"{address}/tree/{tag}/docs",
                "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{address}/issues",
                "Source": address,
            }
            text = RELATIVE.sub(
                lambda link: f"]({address}/{'raw' if link[1].endswith(PICTURES) else 'blob'}/{tag}/{link[1]})", text
            )
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class GenerateBuildHook(BuildHookInterface[Any]):
    """Hatchling build hook that generates code before the build collects its files."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate before files are collected; a wheel gets documentation, and the client's part by a requirement."""
        root = Path(self.root)
        if self.target_name == "wheel":
            generate(root)
        if version == "standard":
            build_data["dependencies"].append(f"flowhook-client=={self.metadata.version}")
        if self.target_name == "wheel" and version == "standard":
            shipped = runpy.run_path(str(root / "admin" / "shipped_files.py"))
            paths = shipped["shipped_paths"](root)
            build_data["force_include"].update({str(root / path): f"{shipped['FOLDER']}/{path}" for path in paths})


if __name__ == "__main__":
    generate()
