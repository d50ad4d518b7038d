"""`flowhook backup` beside `flowhook up --storage nats:`, and after it, without being told where the storage is."""

from __future__ import annotations

from contextlib import closing

import orjson
import pytest
from support.commands import Up

from router.storage.backups.archive import read_archive

pytestmark = [pytest.mark.e2e]


def test_the_storage_of_a_local_log_is_found_while_it_runs_and_when_it_does_not(tmp_path):
    data, target = tmp_path / "data", tmp_path / "one.tar"

    def backed_up(cluster):
        """Make a backup, and return the URL that it names."""
        made = cluster.run("backup", target)
        assert made.code == 0, made
        [url] = [line.removeprefix("backing up ") for line in made.out.splitlines() if line.startswith("backing up ")]
        assert password not in made.out + made.err
        assert read_archive(target)
        target.unlink()
        return url

    with closing(Up(data, "--storage", "nats:", "--runners", "1")) as cluster:
        password = orjson.loads((data / "nats.json").read_bytes())["password"]
        running = backed_up(cluster)
        code, _, errors = cluster.stop()
        assert (code, errors) == (0, "")
        assert running.startswith("nats://127.0.0.1:")
        assert backed_up(cluster) == running
