"""Settings that contain a secret come from a variable, or from a file that a variable names."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError
from support.cases import cases

from cli.commands.up import UpSettings
from cli.setting_names import explain_validation_error
from flowhook.process.confidential_settings import MAX_BYTES, has_credentials, is_confidential
from flowhook.process.settings import AdminSettings, CommonSettings, EdgeSettings, RouterSettings, RunnerSettings

MODELS = (CommonSettings, EdgeSettings, RouterSettings, RunnerSettings, AdminSettings, UpSettings)
CASES = sorted(
    {(model, name) for model in MODELS for name, field in model.model_fields.items() if is_confidential(field)},
    key=str,
)
VALUE = "nats://flowhook:a-secret@nats-1:4222"


def value_of(model, name):
    found = getattr(model(), name)
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def explained(model, **given):
    with pytest.raises(ValidationError) as refused:
        model(**given)
    return explain_validation_error(refused.value, given)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{VALUE}\n")
    return path


def test_they_are_tokens_keys_codes_and_urls_with_passwords():
    assert {name for _, name in CASES} == {"token", "secrets_key", "login_code", "storage"}


@pytest.mark.parametrize(("model", "name"), CASES)
def test_each_is_read_from_a_file_and_not_from_two_places(model, name, file, monkeypatch):
    variable = f"FLOWHOOK_{name.upper()}"
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    assert value_of(model, name) == VALUE
    monkeypatch.setenv(variable, "")
    assert value_of(model, name) == VALUE
    monkeypatch.setenv(variable, "other")
    assert explained(model) == f"{variable} and {variable}_FILE are set: unset one of them"


def test_an_argument_counts_more_than_a_file(file, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_STORAGE_FILE", str(file))
    assert RouterSettings(storage="sqlite:here").storage == "sqlite:here"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * (MAX_BYTES + 1)])
def test_anything_but_one_line_of_text_is_refused_without_showing_it(content, file, monkeypatch):
    file.write_bytes(content)
    monkeypatch.setenv("FLOWHOOK_TOKEN_FILE", str(file))
    assert explained(EdgeSettings) == f"FLOWHOOK_TOKEN_FILE: {file} must have one line of text, and nothing else"


def test_a_file_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_SECRETS_KEY_FILE", str(tmp_path / "none"))
    expected = f"FLOWHOOK_SECRETS_KEY_FILE: can't read {tmp_path}/none: No such file or directory"
    assert explained(RouterSettings) == expected


def test_other_settings_have_no_such_variable(file, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_PROCESS_NAME_FILE", str(file))
    assert EdgeSettings().process_name == ""


@cases(
    ("text", "found"),
    [
        (VALUE, True),
        ("nats://token@a", True),
        ("tls://a:4222,b:4222?replicas=3", False),
        ("sqlite:/home/a@b/flowhook.db", False),
        ("https://a/b@c", False),
        ("", False),
    ],
)
def test_urls_with_credentials_are_recognised(text, found):
    assert has_credentials(text) is found
