"""Full disks are named, with those of directories that are not there yet."""

from __future__ import annotations

import re

from flowhook.process.lifecycle import describe_full
from flowhook.process.settings import EdgeSettings, RouterSettings


def test_a_disk_with_room_is_not_named(tmp_path):
    assert describe_full([tmp_path, tmp_path / "data" / "view"]) == ""


def test_the_directories_of_a_full_disk_are_named_once(tmp_path):
    found = describe_full([tmp_path, tmp_path, tmp_path / "view"], least_bytes=1 << 62)
    assert re.sub(r"\d+\.\d", "1.5", found) == (
        f"disk full: {tmp_path} has 1.5 MiB free, {tmp_path}/view has 1.5 MiB free"
    )


def test_a_router_writes_to_its_database_and_its_view_besides_the_data_directory(tmp_path):
    settings = RouterSettings(
        data_dir=tmp_path, storage=f"sqlite:{tmp_path}/db/flowhook.db", view_dir=tmp_path / "view"
    )
    assert settings.directories == (tmp_path, tmp_path / "db", tmp_path / "view")
    assert RouterSettings(data_dir=tmp_path).directories == EdgeSettings(data_dir=tmp_path).directories == (tmp_path,)
