import pytest

from flowhook.errors import InvalidError
from router.storage.commit_log.jetstream.servers import check_version


@pytest.mark.parametrize("version", ["2.14.0", "2.15.1", "2.14.0-RC.1", "3.0.0", "v2.20.0"])
def test_versions_that_will_do(version):
    check_version(version, "nats-1")


@pytest.mark.parametrize("version", ["2.13.9", "2.9.0", "1.99.0", "", "unknown"])
def test_versions_that_are_too_old(version):
    with pytest.raises(InvalidError) as caught:
        check_version(version, "nats-1")
    assert caught.value.reason == "LOG_SERVER_OUTDATED"
    assert "nats-1" in caught.value.message
    assert "2.14" in caught.value.message
