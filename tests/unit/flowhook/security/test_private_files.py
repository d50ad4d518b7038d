"""Files for their owner alone."""

from __future__ import annotations

import os
import stat

import pytest

from flowhook.security.private_files import make_directory, open_private, restrict_permissions, write_private

FILES = [
    "flowhook.db",
    "flowhook.db-wal",
    "flowhook.db-shm",
    "flowhook.db.lock",
    "flowhook.db.before-upgrade",
    "secrets.key",
    "secrets.key.bak",
    "tokens.json",
    ".tokens.json.lock",
    "admin.token",
    "view.token",
    "router.log",
    "blobs/ab/evt_1.00",
    "run/edge-1.pid",
    "run/cluster.json",
    "nats.json",
    "backups/monday/flowhook.db",
]


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def exposed(tmp_path):
    """A data directory that everybody can read."""
    for name in FILES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ours")
        path.chmod(0o644)
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*/")):
        path.chmod(0o755)
    return tmp_path / "data"


def test_what_was_open_to_others_is_so_no_more(exposed):
    assert restrict_permissions(exposed) == []
    assert {mode(exposed / name) for name in FILES} == {0o600}
    assert {mode(path) for path in (exposed, *exposed.rglob("*")) if path.is_dir()} == {0o700}
    assert {(exposed / name).read_text() for name in FILES} == {"ours"}


def test_what_is_not_ours_and_what_a_link_points_to_is_left_alone(exposed, tmp_path):
    other, target = exposed / "notes.txt", tmp_path / "target"
    for path in (other, target):
        path.write_text("theirs")
        path.chmod(0o644)
    (exposed / "other.token").symlink_to(target)
    (exposed / "run" / "link").symlink_to(tmp_path)
    before = mode(tmp_path)
    assert restrict_permissions(exposed) == []
    assert (mode(other), mode(target), mode(tmp_path)) == (0o644, 0o644, before)


def test_a_data_directory_behind_a_link_is_tightened(exposed, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(exposed)
    restrict_permissions(link)
    assert (mode(exposed), mode(exposed / "secrets.key")) == (0o700, 0o600)


def test_a_database_elsewhere_is_tightened_and_its_directory_is_not(exposed, tmp_path):
    elsewhere = tmp_path / "shared"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    names = ["events.db", "events.db-wal", "blobs/00/evt"]
    for name in (*names, "theirs"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text("")
        (elsewhere / name).chmod(0o644)
    restrict_permissions(exposed, elsewhere / "events.db")
    assert {mode(elsewhere / name) for name in names} == {0o600}
    assert (mode(elsewhere), mode(elsewhere / "theirs"), mode(elsewhere / "blobs")) == (0o755, 0o644, 0o700)


def test_what_operators_put_beside_copies_of_ours_is_left_alone(exposed):
    for name in ("backup/nightly.sh", "backups/monday/README", "logs/rotate.conf"):
        (exposed / name).parent.mkdir(parents=True, exist_ok=True)
        (exposed / name).write_text("theirs")
        (exposed / name).chmod(0o755)
    for name in ("backup/tokens.json", "backups/monday/blobs/ab/evt", "logs/router.log"):
        (exposed / name).parent.mkdir(parents=True, exist_ok=True)
        (exposed / name).write_text("ours")
        (exposed / name).chmod(0o644)
    assert restrict_permissions(exposed) == []
    assert {mode(exposed / name) for name in ("backup/nightly.sh", "backups/monday/README", "logs/rotate.conf")} == {
        0o755
    }
    assert mode(exposed / "backup/tokens.json") == mode(exposed / "backups/monday/blobs/ab/evt") == 0o600
    assert mode(exposed / "logs/router.log") == 0o600


def test_only_rights_of_others_are_taken(exposed):
    (exposed / "admin.token").chmod(0o444)
    (exposed / "run" / "hook").write_text("")
    (exposed / "run" / "hook").chmod(0o755)
    restrict_permissions(exposed)
    assert (mode(exposed / "admin.token"), mode(exposed / "run" / "hook")) == (0o400, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a file away")
def test_the_superuser_takes_nothing_from_its_owner(exposed):
    for path in (exposed, exposed / "router.log"):
        os.chown(path, 12345, 12345)
    assert restrict_permissions(exposed) == [exposed, exposed / "router.log"]
    assert (mode(exposed), mode(exposed / "router.log"), mode(exposed / "tokens.json")) == (0o755, 0o644, 0o600)


def test_a_directory_that_holds_what_is_not_ours_keeps_its_mode(exposed):
    (exposed / "www").mkdir()
    assert restrict_permissions(exposed) == []
    make_directory(exposed)
    assert (mode(exposed), mode(exposed / "tokens.json")) == (0o755, 0o600)
    exposed.chmod(0o775)
    assert restrict_permissions(exposed) == [exposed]


def test_a_directory_that_was_made_for_many_is_reported_and_left_alone(tmp_path):
    tmp_path.chmod(0o1777)
    assert restrict_permissions(tmp_path) == [tmp_path]
    assert mode(tmp_path) == 0o777 | stat.S_ISVTX


@pytest.mark.usefixtures("umask")
def test_what_is_made_is_private_whatever_the_umask_says(tmp_path):
    make_directory(tmp_path / "data")
    os.close(open_private(tmp_path / "data" / "made", os.O_RDWR))
    write_private(tmp_path / "data" / "written", b"x")
    assert mode(tmp_path / "data") == 0o700
    assert {mode(path) for path in (tmp_path / "data").iterdir()} == {0o600}


def test_in_directories_that_others_change_at_any_time_only_they_themselves_are_restricted(exposed):
    for name in ("nats-1", "router-12", "view"):
        (exposed / name / "inside").mkdir(parents=True)
        for path in (exposed / name, exposed / name / "inside"):
            path.chmod(0o755)

    assert restrict_permissions(exposed) == []
    assert mode(exposed) == 0o700
    for name in ("nats-1", "router-12", "view"):
        assert (mode(exposed / name), mode(exposed / name / "inside")) == (0o700, 0o755)
