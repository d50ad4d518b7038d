"""Options made of settings models."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from support.cases import cases

from cli.options import confirm, read_settings, settings_command
from flowhook.process.settings import AdminSettings, EdgeSettings, RouterSettings, RunnerSettings


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLOWHOOK_", env_ignore_empty=True, use_attribute_docstrings=True)

    http_port: int = 8080
    """Port that senders reach."""
    data_dir: Path = Path("data")
    ca_file: Path | None = None
    pushy: bool = False
    token: SecretStr | None = None


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("HTTP_PORT", "DATA_DIR", "CA_FILE", "PUSHY", "TOKEN"):
        monkeypatch.delenv(f"FLOWHOOK_{name}", raising=False)


def _run(*arguments, action=lambda _settings: None):
    app = typer.Typer()
    app.command("do")(settings_command(Settings, action, help_text="Do it."))
    return typer.main.get_command(app).main(list(arguments), standalone_mode=False)


def _settings(*arguments):
    seen = []
    _run(*arguments, action=seen.append)
    return seen[0]


def test_an_option_beats_the_environment_which_beats_the_default(monkeypatch):
    assert _settings().http_port == 8080
    monkeypatch.setenv("FLOWHOOK_HTTP_PORT", "1")
    assert _settings().http_port == 1
    assert _settings("--http-port", "2").http_port == 2


def test_an_option_may_be_zero_or_false(monkeypatch):
    monkeypatch.setenv("FLOWHOOK_PUSHY", "true")
    settings = _settings("--http-port", "0", "--no-pushy")
    assert (settings.http_port, settings.pushy) == (0, False)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("FLOWHOOK_HTTP_PORT", "")
    assert _settings().http_port == 8080


def test_paths_arrive_as_paths():
    assert _settings("--data-dir", "/x", "--ca-file", "/y").ca_file == Path("/y")


def test_a_secret_has_no_option_for_all_to_see(monkeypatch):
    with pytest.raises(typer.TyperException, match="--token"):
        _run("--token", "x")
    monkeypatch.setenv("FLOWHOOK_TOKEN", "x")
    assert _settings().token.get_secret_value() == "x"


def test_help_reports_meaning_default_and_variable(capsys):
    _run("--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Port that senders reach (default 8080," in shown
    assert "FLOWHOOK_HTTP_PORT" in shown


def test_a_wrong_value_is_named_by_its_option():
    with pytest.raises(typer.BadParameter, match="--http-port: input should be a valid integer"):
        _settings("--http-port", "x")


def test_a_wrong_value_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("FLOWHOOK_HTTP_PORT", "x")
    with pytest.raises(typer.BadParameter, match="FLOWHOOK_HTTP_PORT: input should be a valid integer"):
        _settings()


def test_a_wrong_secret_is_named_without_its_value(monkeypatch):
    with pytest.raises(typer.BadParameter) as caught:
        read_settings(Settings, {"http_port": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_what_the_action_returns_is_the_exit_code():
    assert _run(action=lambda _settings: 3) == 3
    assert not _run(action=lambda _settings: 0)


@pytest.mark.parametrize("model", [EdgeSettings, RouterSettings, RunnerSettings, AdminSettings])
def test_every_setting_of_every_process_has_an_option_and_is_explained(model):
    app = typer.Typer()
    app.command("do")(settings_command(model, lambda _settings: None, help_text="Do it."))
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    expected = {
        "--" + name.replace("_", "-")
        for name, field in model.model_fields.items()
        if "Secret" not in str(field.annotation)
    }
    assert expected <= options
    undocumented = {name for name, field in model.model_fields.items() if not field.description}
    assert undocumented == set()


@cases(
    ("model", "given", "reported"),
    [
        (
            AdminSettings,
            {"admin_hosts": "https://admin.example.com"},
            "--admin-hosts: expected host names without scheme",
        ),
        (AdminSettings, {"admin_hosts": "admin.example.com:80, b"}, "--admin-hosts: expected host names without"),
        (EdgeSettings, {"public_url": "hooks.example.com"}, "--public-url: expected only scheme and host"),
        (RunnerSettings, {"public_url": "https://hooks.example.com/in"}, "--public-url: expected only scheme and host"),
        (EdgeSettings, {"header_timeout": "0"}, "--header-timeout: input should be greater than 0"),
        (RunnerSettings, {"expression_seconds": "-1"}, "--expression-seconds: input should be greater than 0"),
        (RunnerSettings, {"http_timeout": "nan"}, "--http-timeout: input should be"),
        (RouterSettings, {"retention_seconds": "inf"}, "--retention-seconds: input should be a finite number"),
        (RouterSettings, {"max_attempts": "0"}, "--max-attempts: input should be greater than or equal to 1"),
    ],
)
def test_a_setting_that_no_process_could_work_with_is_refused(model, given, reported):
    with pytest.raises(typer.BadParameter) as refusal:
        read_settings(model, given)
    assert reported in str(refusal.value)


def test_settings_at_the_edge_of_what_makes_sense_are_taken():
    assert read_settings(EdgeSettings, {"public_url": "http://[::1]:8080"}).public_url == "http://[::1]:8080"
    assert read_settings(EdgeSettings, {"public_url": "https://a.example/"}).public_url == "https://a.example"
    assert read_settings(RouterSettings, {"drain_seconds": "0", "storage_max_bytes": "0"}).drain_seconds == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "yes"), [("y\n", False), ("", True)])
def test_what_is_confirmed_goes_on(monkeypatch, answer, yes):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    confirm("Erase it?", yes=yes)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_anything_else_on_a_terminal_ends_the_command(monkeypatch, answer, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with pytest.raises(typer.Abort):
        confirm("Erase it?", yes=False)
    assert capsys.readouterr().err.startswith("Erase it? [y/N]")


def test_a_script_is_not_asked(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    confirm("Erase it?", yes=False)
    assert capsys.readouterr() == ("", "")
