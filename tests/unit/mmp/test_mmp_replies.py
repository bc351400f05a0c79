"""Replies: verdicts, rows and masks, beyond what the transcripts show."""

from __future__ import annotations

import mmp_transcripts
import pytest

from workflows.errors import UnexpectedReply
from workflows.mmp.replies import (
    DatabaseStatus,
    Outcome,
    PkiAnswer,
    Progress,
    Role,
    Standing,
    Status,
    Verdict,
    mask,
    parse_database_status,
    parse_date,
    parse_inspection,
    parse_pki_answer,
    parse_pki_list,
    parse_status,
    parse_version,
)

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


def test_password_and_secret_rows_are_masked():
    """`turn` and `xmpp callbridge list` print secrets in clear; none of them stays."""
    text = "Password                : Cisco.123\nShared secret           : s3\nSecret     : abc\nUsername : admin"

    expected = text.replace("Cisco.123", "********").replace("s3", "********").replace("abc", "********")
    assert mask(text) == expected


def test_none_is_no_secret():
    """That no secret is set is worth reading, and not secret."""
    assert mask("Shared secret           : none") == "Shared secret           : none"


def test_private_keys_are_masked_even_when_cut_off():
    """The body of a key goes, with or without its last line."""
    assert "MIIEow" not in mask(f"before\n{KEY}\nafter")
    assert "MIIEow" not in mask(KEY.partition("\n-----END")[0])
    assert mask(f"before\n{KEY}\nafter").endswith("\nafter")


def test_an_error_about_a_reply_hides_its_secrets():
    """What was refused is shown, but masked."""
    with pytest.raises(UnexpectedReply) as caught:
        parse_status("FAILURE: broken\nPassword : Cisco.123")

    assert "Cisco.123" not in f"{caught.value} {caught.value.data} {caught.value.remedy()}"


def test_a_silent_reply_is_not_known_to_be_good():
    """`certs` says nothing when all is well, and also when the line got lost."""
    verdict = Verdict.of("\n", standing=Standing.VERBATIM)

    assert (verdict.outcome, verdict.silent) == (Outcome.UNKNOWN, True)


def test_a_failure_among_successes_is_a_refusal():
    """One failed check is enough."""
    verdict = Verdict.of("SUCCESS: one\nFAILURE: two", standing=Standing.VERBATIM)

    assert (verdict.outcome, verdict.successes, verdict.failures) == (Outcome.REFUSED, ("one",), ("two",))


def test_a_reboot_that_is_asked_for_is_noticed():
    """`hostname` and others take effect only after a reboot."""
    assert Verdict.of("A reboot is required for the change to take effect", standing=Standing.VERBATIM).reboot_required
    assert not Verdict.of("SUCCESS: done", standing=Standing.VERBATIM).reboot_required


def test_labels_are_found_without_regard_to_case_and_blanks():
    """Releases differ in both."""
    status = Status(rows=(("TLS  Listening port", "443"),))

    assert status.get("tls listening PORT") == "443"
    assert status.get("TLS") is None


def test_a_value_may_hold_the_separator_itself():
    """Only the first ` : ` cuts."""
    assert parse_status("Banner : a : b").rows == (("Banner", "a : b"),)


def test_blocks_begin_at_their_label_and_a_status_without_it_is_one_block():
    """`loadbalancer list` shows one block per tag."""
    status = parse_status("Tag : a\nEnabled : true\nTag : b\nEnabled : false")

    assert [block.get("Enabled") for block in status.blocks("Tag")] == ["true", "false"]
    assert status.blocks("Name") == (status,)


def test_the_database_says_who_is_primary_and_who_is_asked():
    """The healthy sample, asked for what a rebuild needs to know."""
    status = parse_database_status(mmp_transcripts.load("database-cluster-status/healthy").reply)

    assert (status.primary, status.enabled, status.disabled) == ("10.48.36.61", True, False)
    assert status.me is not None
    assert status.me.address == "10.48.36.182"


def test_two_primaries_are_no_primary():
    """With a split cluster nobody may be taken for the one with the data."""
    text = "Status : Enabled\nNodes:\n    10.0.0.1 : Connected Primary\n    10.0.0.2 : Connected Primary\n"

    assert parse_database_status(text).primary is None


def test_a_disabled_database_has_no_nodes():
    """After `remove`, or never clustered."""
    assert parse_database_status("Status : Disabled").disabled
    assert DatabaseStatus(state="Disabled").me is None


def test_out_of_sync_is_not_in_sync():
    """The two differ by a word before the same two."""
    text = "Status : Enabled\nNodes:\n    10.0.0.1 : Connected Replica ( Out of Sync )\n    10.0.0.2 : Not connected\n"

    nodes = parse_database_status(text).nodes
    assert [(node.connected, node.in_sync) for node in nodes] == [(True, False), (False, False)]


@pytest.mark.parametrize(
    ("value", "file", "expired"),
    [
        ("dbclient.cer ( Expired )", "dbclient.cer", ("dbclient.cer",)),
        ("dbclient.cer (expired)", "dbclient.cer", ("dbclient.cer",)),
        ("dbclient.cer - has expired", "dbclient.cer", ("dbclient.cer",)),
        ("dbclient.cer  *** EXPIRED ***", "dbclient.cer", ("dbclient.cer",)),
        ("dbclient.cer ( Not found )", "dbclient.cer", ()),
        ("old expired.cer", "old expired.cer", ()),
        ("client (1).cer", "client (1).cer", ()),
        ("( Expired )", None, ()),
        ("none ( Expired )", None, ()),
    ],
)
def test_a_mark_after_a_file_of_the_database_is_no_part_of_its_name(value, file, expired):
    """The wording of the mark is not known, so it is read by its word."""
    status = parse_database_status(f"Status : Enabled\n  Client Certificate : {value}")

    assert (file, expired) == (status.client_certificate, status.expired)


@pytest.mark.parametrize(
    ("text", "role", "connected"),
    [
        ("Primary ( Connection Failure )", Role.PRIMARY, False),
        ("Connected Slave ( Connection Failure )", Role.REPLICA, False),
        ("Not connected Replica", Role.REPLICA, False),
        ("Connection Failure", Role.UNKNOWN, False),
        ("Connected", Role.UNKNOWN, True),
    ],
)
def test_a_node_that_is_not_reached_keeps_its_role(text, role, connected):
    """Who the primary was must be told when certificates have expired and nobody reaches anybody."""
    (node,) = parse_database_status(f"Status : Enabled\nNodes:\n    10.0.0.1 : {text}\n").nodes

    assert (role, connected) == (node.role, node.connected)


@pytest.mark.parametrize(
    ("state", "how", "progress"),
    [
        ("Initializing", "Success", Progress.IN_PROGRESS),
        ("Attaching", "Failed", Progress.IN_PROGRESS),
        ("Connecting", "Success", Progress.IN_PROGRESS),
        ("Removing", "Success", Progress.IN_PROGRESS),
        ("Enabled ( In progress )", "Success", Progress.IN_PROGRESS),
        ("Enabled", "In progress", Progress.IN_PROGRESS),
        ("Enabled", "Success", Progress.SUCCESS),
        ("Error", "Failed", Progress.FAILED),
        ("Enabled", "Dubious", Progress.UNKNOWN),
    ],
)
def test_what_the_database_is_doing_counts_more_than_its_last_command(state, how, progress):
    """The row of the last command may still be the one of before."""
    text = f"Status : {state}\nLast command : 'database cluster remove' ({how})"

    assert progress == parse_database_status(text).progress


def test_no_error_is_no_error():
    """A row that says none is no reason to stop."""
    assert parse_database_status("ERROR : none\nStatus : Enabled").error is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Success", PkiAnswer.YES),
        ("Failure: unable to get local issuer certificate", PkiAnswer.NO),
        ("Key and certificate match", PkiAnswer.YES),
        ("SUCCESS: HTTPS full chain of certificates verifies correctly", PkiAnswer.YES),
        ("error 20 at 0 depth lookup", PkiAnswer.NO),
        ("b.crt: not found", PkiAnswer.UNKNOWN),
        ("", PkiAnswer.UNKNOWN),
    ],
)
def test_pki_answers_are_read_by_their_words(text, answer):
    """Wordings are guessed, so each is read by its words, and a no is looked for first."""
    assert parse_pki_answer(text) == answer


def test_the_end_of_an_inspected_certificate_is_that_of_the_first():
    """A full chain ends for its service when its entity does."""
    inspection = parse_inspection(mmp_transcripts.load("pki-inspect/bundle").reply)

    assert inspection.not_valid_after == inspection.certificates[0].not_valid_after
    assert parse_inspection(mmp_transcripts.load("pki-inspect/private-key").reply).not_valid_after is None


def test_an_unreadable_date_is_none():
    """The date can be read from the fetched file instead."""
    text = mmp_transcripts.load("pki-inspect/certificate").reply.replace("Nov  5 10:00:00 2027 GMT", "tomorrow")

    assert parse_inspection(text).not_valid_after is None


@pytest.mark.parametrize("parse", [parse_version, parse_date])
def test_a_number_within_a_failure_is_no_answer(parse):
    """The text of an error may hold numbers and times of its own."""
    with pytest.raises(UnexpectedReply, match="refused"):
        parse("FAILURE: error 4.2 at 2026-11-23 10:00:00 UTC")


def test_a_failure_is_no_list_of_files():
    """A failed listing may not look like an empty server."""
    with pytest.raises(UnexpectedReply, match="permission denied"):
        parse_pki_list("FAILURE: permission denied")
