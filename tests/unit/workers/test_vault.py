"""The vault: what goes in comes out, for the same row and key only."""

import stat

import pytest

from workflows.errors import SettingsError, VaultError
from workflows.journal.vault import Vault


def test_what_was_sealed_opens_again_also_in_another_process(tmp_path):
    """A second vault on the same folder uses the same key."""
    sealed = Vault(tmp_path).seal("key/seoul", b"-----BEGIN PRIVATE KEY-----")
    assert Vault(tmp_path).unseal("key/seoul", sealed) == b"-----BEGIN PRIVATE KEY-----"


def test_sealed_bytes_hide_the_plaintext_and_differ_each_time(tmp_path):
    """Nonces are fresh, and nothing of the plaintext is seen."""
    vault = Vault(tmp_path)
    first, second = vault.seal("row", b"canary" * 20), vault.seal("row", b"canary" * 20)
    assert (b"canary" in first, first == second) == (False, False)


def test_ciphertext_of_another_row_does_not_open(tmp_path):
    """Swapping two rows in the database is noticed."""
    vault = Vault(tmp_path)
    with pytest.raises(VaultError, match="'row-b' does not open"):
        vault.unseal("row-b", vault.seal("row-a", b"secret"))


def test_changed_ciphertext_does_not_open(tmp_path):
    """One flipped bit is noticed."""
    vault = Vault(tmp_path)
    sealed = bytearray(vault.seal("row", b"secret"))
    sealed[-1] ^= 1
    with pytest.raises(VaultError):
        vault.unseal("row", bytes(sealed))


@pytest.mark.parametrize("cut", [0, 5, 20, 31])
def test_cut_ciphertext_does_not_open(tmp_path, cut):
    """A row that was cut short gives the same clear error, wherever the cut is."""
    vault = Vault(tmp_path)
    with pytest.raises(VaultError):
        vault.unseal("row", vault.seal("row", b"secret")[:cut])


def test_other_key_does_not_open(tmp_path):
    """A lost key file is told as such."""
    sealed = Vault(tmp_path / "a").seal("row", b"secret")
    with pytest.raises(VaultError) as caught:
        Vault(tmp_path / "b").unseal("row", sealed)
    assert str(tmp_path / "b" / "key") in caught.value.remedy()


def test_key_file_is_ours_alone(tmp_path):
    """The key is made with mode 0600 in a folder of mode 0700, and nothing else is left there."""
    folder = tmp_path / "vault"
    Vault(folder).seal("row", b"secret")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "key")]
    assert (modes, [path.name for path in folder.iterdir()]) == ([0o700, 0o600], ["key"])


def test_key_file_that_others_can_read_is_refused(tmp_path):
    """A key that somebody else may have read is not used."""
    Vault(tmp_path).seal("row", b"secret")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(SettingsError, match="0644"):
        Vault(tmp_path).seal("row", b"secret")


def test_damaged_key_file_is_refused(tmp_path):
    """A key file that holds something else is not used."""
    (tmp_path / "key").write_text("not a key\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(SettingsError, match="not a vault key"):
        Vault(tmp_path).seal("row", b"secret")
