"""Which Python `make` takes: each here is a script that says what it is, as install/python.sh asks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHOOSE = Path(__file__).parents[3] / "install" / "python.sh"


@pytest.fixture
def choose(tmp_path):
    """Put scripts that stand for Pythons on a PATH, in folders by precedence, and ask which one is chosen."""

    def run(*folders, named=""):
        path = []
        for number, pythons in enumerate(folders):
            folder = tmp_path / str(number)
            folder.mkdir()
            path.append(str(folder))
            for name, script in pythons.items():
                (folder / name).write_text(f"#!/bin/sh\n{script}\n")
                (folder / name).chmod(0o755)
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "head").symlink_to(shutil.which("head"))
        return subprocess.run(
            ["/bin/sh", CHOOSE, named],
            env={"PATH": os.pathsep.join([*path, str(tools)])},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def fit(version):
    return f'echo {version} "$0"'


def unfit(why):
    return f"echo '{why}' >&2; exit 1"


def test_the_newest_is_taken_wherever_it_is_on_path(choose):
    chosen = choose({"python3": fit("3.11"), "python3.11": fit("3.11")}, {"python3.13": fit("3.13")})
    assert chosen.stdout.endswith("/1/python3.13\n")


def test_a_launcher_without_its_python_and_a_python_without_ensurepip_are_passed_over(choose):
    chosen = choose(
        {
            "python3.13": unfit("pyenv: python3.13: command not found"),
            "python3.12": unfit("lacks the module ensurepip"),
        },
        {"python3.13": fit("3.13"), "python3.12": fit("3.12")},
    )
    assert chosen.stdout.endswith("/1/python3.13\n")


def test_one_without_a_version_in_its_name_will_do(choose):
    assert choose({"python3": fit("3.12")}).stdout.endswith("/0/python3\n")


def test_one_that_is_named_is_taken_though_others_are_newer(choose):
    chosen = choose({"python3.13": fit("3.13"), "python3.11": fit("3.11")}, named="python3.11")
    assert chosen.stdout.endswith("/0/python3.11\n")


def test_one_that_is_named_and_unfit_is_refused(choose):
    refused = choose({"python3.13": fit("3.13"), "mine": unfit("is Python 3.9, older than 3.11")}, named="mine")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "mine: is Python 3.9, older than 3.11" in refused.stderr


def test_where_none_is_fit_each_is_reported_with_what_is_wrong(choose):
    refused = choose({"python3.15": fit("3.15"), "python3": fit("3.15"), "python3.12": unfit("lacks the module ssl")})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "/0/python3.12: lacks the module ssl" in refused.stderr
    assert "/0/python3: is Python 3.15, for which not every locked package has a wheel" in refused.stderr


def test_of_a_virtual_environment_the_python_that_it_was_made_with_is_taken():
    # this suite's own, which may be the one on PATH while its environment is made anew
    chosen = subprocess.run(["/bin/sh", CHOOSE, sys.executable], capture_output=True, text=True, check=True)
    made_with = Path(chosen.stdout.strip())
    assert made_with.exists()
    assert Path(sys.base_prefix) in made_with.parents
