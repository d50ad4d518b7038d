"""Of a router that is away it is told why it was looked for where it was."""

from __future__ import annotations

import os

import pytest

from cli.client_factory import client_for, client_settings, explain_unreachable
from cli.supervisor.rundir import DEV_DATA_DIR, ClusterAddresses, RunDir
from flowhook.errors import InvalidError, UnavailableError


def reported(settings, reason="ROUTER_UNREACHABLE"):
    """Return what is told when the router is away."""
    with pytest.raises(UnavailableError) as caught, explain_unreachable(settings):
        raise UnavailableError("it is away", reason=reason, retry_after=7)
    assert (caught.value.reason, caught.value.retry_after) == (reason, 7)
    return caught.value.message


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("FLOWHOOK_")]:
        monkeypatch.delenv(name)


def test_the_default_address_is_reported_with_the_directory_on_which_no_cluster_runs(tmp_path):
    assert reported(client_settings(None, tmp_path)) == (
        f"it is away (no cluster runs on {tmp_path}, so this is the default address; "
        "--router or FLOWHOOK_ROUTER names another)"
    )


def test_that_there_is_no_cluster_is_said_before_that_there_is_no_token(tmp_path):
    with pytest.raises(InvalidError, match=r"^no cluster runs here, and there is no token: set FLOWHOOK_TOKEN, or"):
        client_for(client_settings(None, tmp_path)).__enter__()
    with pytest.raises(InvalidError, match=r"^no token: set FLOWHOOK_TOKEN, or"):
        client_for(client_settings("127.0.0.1:9", tmp_path)).__enter__()


def test_the_address_of_a_variable_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_ROUTER", "127.0.0.1:9")
    assert reported(client_settings(None, tmp_path)) == "it is away (the address is that of FLOWHOOK_ROUTER)"


def test_the_address_of_a_cluster_names_its_directory(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.write_cluster(ClusterAddresses(os.getpid(), "", "", "127.0.0.1:9", 0, 0, 9))
    settings = client_settings(None, tmp_path)
    text = reported(settings, "ROUTER_TIMEOUT")
    run_dir.close()
    assert settings.router == "127.0.0.1:9"
    assert text == f"it is away (the address is that of the cluster on {tmp_path})"


def test_the_address_of_an_option_needs_no_explanation_nor_does_another_error(tmp_path):
    assert reported(client_settings("127.0.0.1:9", tmp_path)) == "it is away"
    assert reported(client_settings(None, tmp_path), "STORAGE_UNAVAILABLE") == "it is away"


def test_a_cluster_of_dev_in_the_working_directory_is_found_unless_something_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = RunDir(DEV_DATA_DIR)
    run_dir.write_cluster(ClusterAddresses(os.getpid(), "", "", "127.0.0.1:9", 0, 0, 9))
    found = client_settings(None, None)
    assert (found.router, found.data_dir) == ("127.0.0.1:9", DEV_DATA_DIR)
    assert client_settings(None, tmp_path).router != "127.0.0.1:9"
    # its token must not be shown to another router
    assert client_settings("127.0.0.1:8", None).data_dir != DEV_DATA_DIR
    run_dir.close()
