"""A cluster that can't start is reported with what it printed, which is in its log file, too."""

import pytest

from harness.cluster import start_cluster


async def test_a_cluster_that_cannot_start_says_why(tmp_path):
    log = tmp_path / "cluster.log"
    with pytest.raises(RuntimeError, match=r"did not get ready:\n.*storage 'bogus' is not supported"):
        await start_cluster("--storage", "bogus:x", data_dir=tmp_path / "data", log=log)
    assert "storage 'bogus' is not supported" in log.read_text()
