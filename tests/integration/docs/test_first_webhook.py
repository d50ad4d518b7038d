"""In a fresh clone the commands of README.md, and nothing else, lead to a verified webhook within a minute.

CPU time is judged, since other tests run at the same time; the time that it took is printed.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time

from support import pages, transcripts
from support.commands import Up, clean_environment
from support.patience import PATIENCE

README = pages.ROOT / "README.md"
BLOCKS = [block.text for block in pages.blocks(README) if not block.language]
SECONDS = 60


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_fresh_clone_verifies_a_webhook_with_the_commands_of_the_readme(tmp_path, capsys):
    install, start, use, refuse = BLOCKS
    clone = tmp_path / "flowhook"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{pages.ROOT}", clone], check=True)
    began, used = time.monotonic(), cpu_seconds()
    environment = clean_environment() | {"UV_OFFLINE": os.environ.get("UV_OFFLINE", "0")}
    subprocess.run(["bash", "-euc", install], cwd=clone, check=True, timeout=PATIENCE, env=environment)
    binaries = f"{clone}/.venv/bin"
    first = transcripts.Shell(clone, {}, binaries=binaries)
    make, new, dev = transcripts.commands(start)
    assert dev.line == "flowhook dev"
    assert first.run(f"{make.line} && {new.line}") == new.printed
    folder = clone / "hooks"
    cluster = Up(folder / ".flowhook", "--no-open", folder, command="dev", python=f"{binaries}/python")
    try:
        shell = transcripts.Shell(folder, {transcripts.DOCUMENTED_URL: cluster.where["http_url"]}, binaries=binaries)
        shell.check(use)
        took, work = time.monotonic() - began, cpu_seconds() - used
        shell.check(refuse)
    finally:
        cluster.close()
    with capsys.disabled():
        sys.stdout.write(f"\nfrom make setup to a verified webhook: {took:.1f} s, {work:.1f} s of CPU time\n")
    assert work < SECONDS
    assert {line.split()[0] for line in dev.printed.splitlines()} <= {line.split()[0] for line in cluster.lines}


def test_the_readme_is_short_and_names_every_provider():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    named = set(re.findall(r"docs/providers/([\w-]+)\.md", text))
    assert named == {path.stem for path in (pages.DOCS / "providers").glob("*.md")}
