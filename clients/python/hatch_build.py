"""Build hook: generates the code that the client's wheel includes, in the clone of the repository it is built from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CLONE = Path(__file__).parents[2]


class GenerateClientBuildHook(BuildHookInterface[Any]):
    """Hatchling build hook that runs the server's code generation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Generate stubs and blocking client before the files of the wheel are collected.

        Raises:
            RuntimeError: the build does not run in a clone of the repository, or protoc refused the protos.
        """
        spec = importlib.util.spec_from_file_location("flowhook_build", CLONE / "hatch_build.py")
        if spec is None or spec.loader is None or not (CLONE / "protos").is_dir():
            raise RuntimeError("flowhook-client is built as a wheel, in a clone of the repository")
        server = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(server)
        server.generate(CLONE)
