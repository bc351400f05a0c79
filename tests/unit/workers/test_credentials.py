"""Credentials: where they are found, what is refused, and that secrets do not print."""

import copy
import json
import pickle
from pathlib import Path

import asyncssh
import pytest

from workers.credentials import Credentials, Secret, ask_keyring, variable
from workflows.errors import CredentialMissing, SettingsError


def no_keyring(_name: str) -> None:
    return None


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_secret_prints_masked_everywhere():
    """No way of making text out of a secret shows it."""
    secret = Secret("hunter-two")
    texts = (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}")
    assert [text for text in texts if "hunter" in text] == []
    assert secret.reveal() == "hunter-two"


def test_secret_cannot_be_pickled_or_dumped():
    """Payloads cannot carry a secret by mistake."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("hunter-two"))
    with pytest.raises(TypeError):
        json.dumps(Secret("hunter-two"))
    kept = Secret("hunter-two")
    assert copy.deepcopy(kept) is kept


def test_variable_name_is_upper_case_without_other_characters():
    """The name of the variable is the one the documentation gives."""
    assert variable("cms-admin.2") == "CERTBRIDGE_CREDENTIAL_CMS_ADMIN_2"


def test_environment_comes_before_file_and_keyring(tmp_path):
    """The order is environment, file, keyring."""
    file = write(tmp_path / "credentials.yaml", "cms: {username: file, password: from-the-file}\n")
    environ = {"CERTBRIDGE_CREDENTIAL_CMS": "env:with:colons"}
    found = Credentials(file, environ=environ, keyring=lambda _: "ring:from-the-ring").resolve("cms")
    assert (found.username, found.password) == ("env", Secret("with:colons"))
    found = Credentials(file, environ={}, keyring=lambda _: "ring:from-the-ring").resolve("cms")
    assert (found.username, found.password) == ("file", Secret("from-the-file"))
    found = Credentials(tmp_path / "absent", environ={}, keyring=lambda _: "ring:from-the-ring").resolve("cms")
    assert (found.username, found.password) == ("ring", Secret("from-the-ring"))


def test_every_secret_found_is_told_to_the_redactor(tmp_path):
    """Passwords and passphrases are known to the redactor before anybody can use them."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "id", "pkcs8-pem", passphrase="pass-of-the-key")
    (tmp_path / "id").chmod(0o600)
    file = write(
        tmp_path / "credentials.yaml",
        "a: {username: u, password: pass-of-a}\nb: {username: u, private_key: id, passphrase: pass-of-the-key}\n",
    )
    told: list[str] = []
    credentials = Credentials(file, environ={}, keyring=no_keyring, learn=lambda secret: told.append(secret.reveal()))
    found = credentials.resolve("b")
    assert found.key is not None
    assert found.key.public_data == key.public_data
    assert set(told) == {"pass-of-a", "pass-of-the-key"}


def test_missing_credential_names_all_three_remedies(tmp_path):
    """Whoever reads the error can choose between variable, file and keyring."""
    file = tmp_path / "credentials.yaml"
    with pytest.raises(CredentialMissing) as caught:
        Credentials(file, environ={}, keyring=no_keyring).resolve("cms-admin")
    remedy = caught.value.remedy()
    assert [
        part
        for part in ("CERTBRIDGE_CREDENTIAL_CMS_ADMIN=", str(file), "keyring set certbridge cms-admin")
        if part not in remedy
    ] == []


def test_file_that_others_can_read_is_refused(tmp_path):
    """A credentials file must have mode 0600."""
    file = write(tmp_path / "credentials.yaml", "cms: {username: u, password: canary-pw}\n", mode=0o640)
    with pytest.raises(SettingsError, match="0640") as caught:
        Credentials(file, environ={}, keyring=no_keyring).resolve("cms")
    assert caught.value.remedy() == f"chmod 0600 {file}"


@pytest.mark.parametrize(
    "text",
    [
        "cms: [canary-pw]\n",
        "cms: {username: u}\n",
        "cms: {username: u, password: canary-pw, extra: 1}\n",
        "- canary-pw\n",
        "cms: {username: u, password: 'canary-pw\n",
    ],
)
def test_faulty_file_is_refused_without_quoting_it(tmp_path, text):
    """A fault in the file is told by place, never by showing a line that may hold a password."""
    file = write(tmp_path / "credentials.yaml", text)
    with pytest.raises(SettingsError) as caught:
        Credentials(file, environ={}, keyring=no_keyring).resolve("cms")
    assert str(file) in str(caught.value)
    assert "canary-pw" not in f"{caught.value} {caught.value.remedy()} {caught.value.__cause__}"


def test_variable_without_password_is_refused():
    """The variable must be user:password."""
    environ = {"CERTBRIDGE_CREDENTIAL_CMS": "only-a-user"}
    with pytest.raises(SettingsError, match="user:password") as caught:
        Credentials(None, environ=environ, keyring=no_keyring).resolve("cms")
    assert "only-a-user" not in str(caught.value)


def test_corrected_file_is_read_again(tmp_path):
    """A corrected password counts at the next login, without a restart of the worker."""
    file = write(tmp_path / "credentials.yaml", "cms: {username: u, password: wrong}\n")
    credentials = Credentials(file, environ={}, keyring=no_keyring)
    before = credentials.resolve("cms").password
    write(file, "cms: {username: u, password: corrected}\n")
    assert (before, credentials.resolve("cms").password) == (Secret("wrong"), Secret("corrected"))


def test_private_key_that_does_not_open_is_a_settings_error(tmp_path):
    """A wrong passphrase is told by file and credential."""
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id", "pkcs8-pem", passphrase="right")
    (tmp_path / "id").chmod(0o600)
    file = write(tmp_path / "credentials.yaml", "b: {username: u, private_key: id, passphrase: canary-pw}\n")
    with pytest.raises(SettingsError, match="passphrase") as caught:
        Credentials(file, environ={}, keyring=no_keyring).resolve("b")
    assert "canary-pw" not in str(caught.value)


def test_machine_without_keyring_backend_has_no_entry(monkeypatch):
    """A keyring that cannot be loaded means "not there", not an error."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    import keyring

    before = keyring.get_keyring()
    keyring.core.init_backend()
    try:
        assert ask_keyring("cms") is None
    finally:
        keyring.set_keyring(before)
