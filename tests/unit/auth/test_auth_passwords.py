"""Passwords: what one has to be, and hashing that cannot be used to take the server down (ASVS 5.0, 6.2 and 11.4.2)."""

from __future__ import annotations

import threading

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from api.auth.passwords import SHORTEST, Passwords, check_password, is_common
from workflows.errors import InputError, TooMany

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_asvs_6_2_1_eleven_characters_are_too_few():
    with pytest.raises(InputError, match="too short: 11"):
        check_password("k7 wal zibr", name="ann")
    check_password("k7 wal zibro", name="ann")


def test_asvs_6_2_9_at_least_64_characters_may_be_used():
    check_password("walnut " * 8 + "harbour zebra", name="ann")
    check_password("".join(chr(0x100 + n) for n in range(256)), name="ann")
    with pytest.raises(InputError, match="longer than 256"):
        check_password("".join(chr(0x100 + n) for n in range(257)), name="ann")


@pytest.mark.parametrize(
    "password", ["kastanienallee", "웹브리지인증서갱신하는날입니다", "walnut harbour zebra", "81639472640518"]
)
def test_asvs_6_2_5_no_kind_of_character_is_asked_for(password):
    check_password(password, name="ann")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password1234!",
        "P@ssw0rd1234",
        "P@$$w0rd2026!",
        "passwordpassword",
        "administrator",
        "Administrator2026",
        "qwertyuiop12",
        "qwertyuiopasdf",
        "123456789012",
        "098765432109",
        "abcdefghijkl",
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "1qaz2wsx3edc",
        "iloveyou2026!!",
        "changeme1234",
        "correct horse battery staple",
    ],
)
def test_asvs_6_2_4_what_everybody_tries_is_refused(password):
    assert is_common(password)
    with pytest.raises(InputError, match="first that anybody tries"):
        check_password(password, name="ann")


def test_asvs_6_2_4_the_most_common_of_leaks_are_refused_made_longer_too():
    """Of 30,000 few have twelve characters; those, and of the first 3,000 what is half as long, with digits behind."""
    listed = FREQUENCY_LISTS["passwords"]
    assert len(listed) >= 30_000
    long = [one for one in listed if len(one) >= SHORTEST]
    assert [one for one in long if not is_common(one)] == []
    longer = [one + "202612"[: max(2, SHORTEST - len(one))] for one in listed[:3000] if len(one) * 2 >= SHORTEST]
    assert len(longer) > 2000
    assert [one for one in longer if not is_common(one)] == []
    for password in ("sonyericsson", "Monkey123456!", "ncc1701-2026"):
        with pytest.raises(InputError, match="first that anybody tries"):
            check_password(password, name="ann")


@pytest.mark.parametrize("password", ["certbridge2026", "CiscoMeetingServer", "callbridge-2026!", "Cisco2026!!!"])
def test_asvs_6_2_11_words_of_the_product_are_refused(password):
    with pytest.raises(InputError):
        check_password(password, name="ann")


@pytest.mark.parametrize(
    "password", ["walnut.harbour", "Walnut.Harbour", "walnut.harbour2026!", "walnut.harbourwalnut.harbour"]
)
def test_a_password_is_not_the_name_of_its_account(password):
    with pytest.raises(InputError, match="name of the account"):
        check_password(password, name="walnut.harbour")


def test_a_lone_surrogate_is_refused_and_breaks_nothing():
    with pytest.raises(InputError, match="no text"):
        check_password("walnut harbour \ud800", name="ann")
    assert not Passwords(CHEAP).fits(CHEAP.hash("x"), "\ud800")


def test_asvs_6_2_8_a_password_is_compared_exactly_as_it_was_typed():
    passwords = Passwords(CHEAP)
    kept = passwords.hash(" Walnut harbour zebra ")
    assert passwords.fits(kept, " Walnut harbour zebra ")
    for other in ("Walnut harbour zebra", " walnut harbour zebra ", " Walnut harbour zebra", " Walnut harbour zebra  "):
        assert not passwords.fits(kept, other)


def test_asvs_11_4_2_hashes_are_argon2id_as_rfc_9106_asks():
    found = extract_parameters(Passwords().hash("walnut harbour zebra"))
    assert (found.type, found.memory_cost >= 65536, found.time_cost >= 3) == (Type.ID, True, True)


def test_where_there_is_no_hash_nothing_fits_but_one_is_computed():
    asked = []

    class Watched(PasswordHasher):
        def verify(self, argon2id, password):
            asked.append(argon2id)
            return super().verify(argon2id, password)

    passwords = Passwords(Watched(time_cost=1, memory_cost=8, parallelism=1))
    assert not passwords.fits("", "nobody has this password")
    assert asked[0].startswith("$argon2id$")


def test_a_hash_of_other_parameters_is_old():
    passwords = Passwords(CHEAP)
    assert not passwords.is_old(passwords.hash("x"))
    assert passwords.is_old(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("x"))


def test_asvs_2_4_1_only_a_few_hashes_are_computed_or_waited_for_at_once():
    """64 MiB each: a hundred at once would take the machine down."""
    begun, go_on, most, now, lock = threading.Semaphore(0), threading.Event(), [0], [0], threading.Lock()

    class Slow(PasswordHasher):
        def hash(self, password, *, salt=None):
            if password != "slow":
                return super().hash(password, salt=salt)
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            begun.release()
            go_on.wait(20)
            with lock:
                now[0] -= 1
            return "x"

    passwords = Passwords(Slow(time_cost=1, memory_cost=8, parallelism=1), at_once=2, waiting=1)
    threads = [threading.Thread(target=passwords.hash, args=("slow",)) for _ in range(3)]
    for thread in threads[:2]:
        thread.start()
    for _ in range(2):
        assert begun.acquire(timeout=20)
    threads[2].start()
    while passwords._admitted._value:  # the third has come in and waits
        threads[2].join(0.01)
    with pytest.raises(TooMany) as caught:
        passwords.hash("slow")
    assert caught.value.data["retry_after_s"] == 2
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert most == [2]
