"""The script that checks the digests of images, with a registry in place of the real one."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from support.deploy_files import DEPLOY, ROOT

PINNED = re.search(r"^FROM (python:\S+)@(sha256:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
NATS = re.search(r"nats:[\d.]+-alpine", (DEPLOY / "compose" / "nats.yaml").read_text())[0]
OTHER = f"sha256:{'0' * 64}"


@pytest.fixture
def check(tmp_path):
    """Run the script with a registry that has images, given by tag or digest; return its exit code and its lines."""

    def run(**registry):
        docker = tmp_path / "docker"
        cases = "".join(f"{image}) echo {digest} ;;\n" for image, digest in registry["images"].items())
        docker.write_text(f'#!/bin/sh\ncase "$4" in\n{cases}*) exit 1 ;;\nesac\n')
        docker.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [DEPLOY / "image-digests.sh"], env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return run


def test_digests_that_the_registry_has_are_fine_and_a_tag_without_one_is_named(check):
    tag, digest = PINNED.groups()
    assert check(images={tag: digest, NATS: OTHER}) == (
        0,
        [f"{NATS}@{OTHER}: the files name no digest", f"{tag}@{digest}: named by the files"],
    )


def test_a_tag_that_has_moved_on_is_named_with_its_digest(check):
    tag, digest = PINNED.groups()
    code, lines = check(images={tag: OTHER, f"{tag}@{digest}": digest, NATS: OTHER})
    assert (code, lines[1]) == (0, f"{tag}@{OTHER}: the files name an earlier one, {digest}")


def test_a_digest_that_the_registry_lacks_fails(check):
    tag, digest = PINNED.groups()
    code, lines = check(images={tag: OTHER, NATS: OTHER})
    assert (code, lines[1]) == (1, f"{tag}: the registry does not have {digest}, which the files name")


def test_every_image_from_elsewhere_is_checked(check):
    code, lines = check(images={})
    assert (code, [line.partition(": ")[0] for line in lines]) == (1, [NATS, PINNED[1]])
