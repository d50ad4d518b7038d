"""`flowhook up`: runs a local cluster."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cli import failures
from cli.options import read_settings, settings_command
from cli.supervisor import SPEC
from cli.supervisor.cluster_spec import ClusterSpec
from cli.supervisor.up_settings import UpSettings
from flowhook.errors import FlowhookError, InvalidFlowError


def _start(settings: UpSettings) -> int:
    try:
        return _up(settings)
    except FlowhookError as error:
        return failures.report_end(error)


def _up(settings: UpSettings) -> int:
    """Check everything that can be refused before anything is started; then exec the supervisor.

    The process ID stays the same, but the code that only the checks need is no longer in memory: the supervisor lives
    as long as the cluster.
    """
    from cli.supervisor.rundir import RunDir

    check(settings)
    if settings.flows is not None:
        from cli import flow_files

        # `cli.applying` fetches functions of catalogs, and decides about those that are away
        if faults := flow_files.check_flow_files([settings.flows], {}, fetches=False)[1]:
            raise InvalidFlowError(faults)
    spec = settings.spec()
    with closing(RunDir(settings.data_dir)):
        prepare(settings, spec)
    sys.stdout.flush()
    # the supervisor ignores the last arguments; they identify the process in a process list
    arguments = [sys.executable, "-P", "-m", "cli.supervisor", "flowhook", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, SPEC: replace(spec, program=program()).to_json()})  # noqa: S606 - no shell is wanted


def check(settings: UpSettings) -> None:
    """Refuse limits and certificates with which no cluster starts, before anything is written."""
    from flowhook.process import kernel

    kernel.ensure_limit()
    if (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file) != (None, None, None):
        from flowhook.process.server_certificates import load_certificates

        load_certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def prepare(settings: UpSettings, spec: ClusterSpec) -> None:
    """Check that the cluster can be started, and create tokens and keys; the caller has locked its directory."""
    from flowhook.security.private_files import restrict_permissions
    from flowhook.security.tokens import ensure_tokens

    spec.check()
    restrict_permissions(settings.data_dir)
    ensure_tokens(settings.data_dir)
    if spec.replicated:
        from flowhook.process.settings import RouterSettings
        from router.storage.encryption import load_secrets_key

        # creates the key of secrets if there is none: one router of several must not create its own
        load_secrets_key(settings.data_dir, read_settings(RouterSettings, {}).secrets_key)


def program() -> str:
    """Return the command as the user wrote it; `python -m cli` has no better name than its own."""
    return sys.argv[0] if Path(sys.argv[0]).name == "flowhook" else "flowhook"


command = settings_command(
    UpSettings, _start, help_text="Run a local cluster: edges, routers, runners and admin. Ctrl-C drains and stops it."
)
