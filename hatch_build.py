"""Build hook: generates the Python stubs of protos/ into flowhook/v1/.

Runs at every install and wheel build, editable ones included, so that generated
code is never committed; `make codegen` runs it by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


def generate(root: Path = ROOT) -> None:
    """Write `flowhook/v1/*_pb2{,_grpc}.py` and their `.pyi` files.

    Raises:
        RuntimeError: protoc refused the protos; its messages are on stderr.
    """
    from grpc_tools import protoc  # noqa: PLC0415 - a build requirement, absent when only reading metadata

    protos = sorted(str(path) for path in (root / "protos").rglob("*.proto"))
    # protoc looks for plugins on PATH, which may not include the build environment's bin folder
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        f"-I{root / 'protos'}",
        f"-I{Path(protoc.__file__).parent / '_proto'}",
        f"--python_out={root}",
        f"--pyi_out={root}",
        f"--grpc_python_out={root}",
    ]
    if plugin.exists():
        arguments += [f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{root}"]
    if protoc.main([*arguments, *protos]) != 0:
        raise RuntimeError("protoc failed; its messages are above")
    (root / "flowhook" / "v1" / "__init__.py").write_text('"""Generated from protos/flowhook/v1; do not edit."""\n')


class ProtobufBuildHook(BuildHookInterface[Any]):
    """Hatchling build hook that generates the stubs before the build collects its files."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Generate before the files of a wheel or an editable install are collected."""
        generate(Path(self.root))


if __name__ == "__main__":
    generate()
