"""Secrets at rest."""

import base64
import os
import stat
import traceback

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from flowhook.errors import ConflictError, InvalidError
from router.storage.encryption import KEY_BYTES, KEY_FILE, SecretCipher, derive_key, load_secrets_key

VALUE = b"hunter2-hunter2"


def test_what_was_sealed_is_opened_under_the_same_name_and_key():
    sealer = SecretCipher(os.urandom(KEY_BYTES))
    assert sealer.open("bank", sealer.encrypt("bank", VALUE)) == VALUE
    assert sealer.open("bank", sealer.encrypt("bank", b"")) == b""


def test_a_sealed_secret_shows_nothing_and_never_looks_the_same_twice():
    sealer = SecretCipher(os.urandom(KEY_BYTES))
    first, second = sealer.encrypt("bank", VALUE), sealer.encrypt("bank", VALUE)
    assert VALUE not in first
    assert first != second
    assert first[:1] == b"\x01"
    assert len(first) == 1 + 12 + len(VALUE) + 16


def test_another_key_is_reported_without_values():
    sealed = SecretCipher(os.urandom(KEY_BYTES)).encrypt("bank", VALUE)
    with pytest.raises(ConflictError, match="bank can't be decrypted") as raised:
        SecretCipher(os.urandom(KEY_BYTES)).open("bank", sealed)
    assert raised.value.reason == "SECRET_NOT_DECRYPTABLE"
    text = "".join(traceback.format_exception(raised.value))
    assert VALUE.decode() not in text
    assert sealed.hex() not in text
    assert raised.value.__cause__ is None


def test_a_secret_cannot_be_passed_off_as_another():
    sealer = SecretCipher(os.urandom(KEY_BYTES))
    with pytest.raises(ConflictError) as raised:
        sealer.open("partner", sealer.encrypt("bank", VALUE))
    assert raised.value.reason == "SECRET_NOT_DECRYPTABLE"


@pytest.mark.parametrize("position", [1, 12, 13, -1])
def test_a_changed_byte_is_noticed(position):
    sealer = SecretCipher(os.urandom(KEY_BYTES))
    sealed = bytearray(sealer.encrypt("bank", VALUE))
    sealed[position] ^= 1
    with pytest.raises(ConflictError):
        sealer.open("bank", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + b"x" * 20, b"\x00" + b"x" * 40])
def test_what_was_never_sealed_is_refused(sealed):
    with pytest.raises(ConflictError) as raised:
        SecretCipher(os.urandom(KEY_BYTES)).open("bank", sealed)
    assert raised.value.reason == "SECRET_NOT_DECRYPTABLE"


def test_a_later_format_is_distinguished():
    with pytest.raises(ConflictError) as raised:
        SecretCipher(os.urandom(KEY_BYTES)).open("bank", b"\x02" + b"x" * 40)
    assert raised.value.reason == "SECRET_FORMAT_TOO_NEW"


@pytest.mark.parametrize("purpose", [b"", b"flowhook callback tokens v1", bytes(range(256))])
def test_a_derived_key_is_that_of_hkdf(purpose):
    key = os.urandom(KEY_BYTES)
    expected = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)
    assert derive_key(key, purpose) == expected


def test_a_missing_key_file_is_made_for_its_owner_alone(tmp_path):
    directory = tmp_path / "data"
    key = load_secrets_key(directory)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == [KEY_FILE]
    assert SecretCipher(load_secrets_key(directory)).open("bank", SecretCipher(key).encrypt("bank", VALUE)) == VALUE


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    load_secrets_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConflictError, match="chmod 600") as raised:
        load_secrets_key(tmp_path)
    assert raised.value.reason == "SECRETS_KEY_EXPOSED"


@pytest.mark.parametrize("content", [b"", b"not base64!", base64.b64encode(b"short"), b"\xff\xfe"])
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConflictError, match="damaged") as raised:
        load_secrets_key(tmp_path)
    assert raised.value.reason == "SECRETS_KEY_INVALID"
    assert path.read_bytes() == content


def test_a_key_file_that_cannot_be_made_is_reported_with_its_cause(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConflictError, match=r"ENOTDIR|EEXIST") as raised:
        load_secrets_key(tmp_path / "file")
    assert raised.value.reason == "SECRETS_KEY_UNREADABLE"


def test_a_key_in_the_settings_needs_no_file(tmp_path):
    key = os.urandom(KEY_BYTES)
    assert load_secrets_key(tmp_path, SecretStr(base64.b64encode(key).decode())) == key
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["", "hunter2", base64.b64encode(b"hunter2-hunter2").decode()])
def test_a_key_in_the_settings_that_is_none_is_refused_without_showing_it(tmp_path, setting):
    with pytest.raises(InvalidError) as raised:
        load_secrets_key(tmp_path, SecretStr(setting))
    assert raised.value.reason == "SECRETS_KEY_INVALID"
    assert not setting or setting not in str(raised.value)
