from __future__ import annotations

import stat

from cli.supervisor.rundir import RunDir


def test_a_new_data_directory_is_its_owners_alone(tmp_path):
    run_dir = RunDir(tmp_path / "data")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data", tmp_path / "data/run")]
    run_dir.close()

    assert modes == [0o700, 0o700]
