"""Commands: spelling, refusal of what could become another line, and the way back from a line."""

from __future__ import annotations

import mmp_transcripts
import pytest

from workflows.errors import InputError
from workflows.mmp.commands import (
    CHANGING,
    READING,
    TIMEOUTS_S,
    DatabaseClusterInitialize,
    DatabaseClusterJoin,
    Help,
    LoadbalancerAuth,
    PkiCsr,
    PkiInspect,
    PkiMatch,
    ServiceCerts,
    ServiceEnable,
    ServiceStatus,
    TimeClass,
    command_of,
    is_reading_line,
    quoted,
    words_of,
)
from workflows.mmp.conversation import Reply
from workflows.mmp.replies import Outcome


def test_a_request_spells_its_attributes_as_the_base_document_does():
    """S1: basename, CN, the rest, subjectAltName last, values with blanks in quotes."""
    command = PkiCsr(
        "callbridge-3",
        CN="cms1.example.com",
        O="Example Ltd",
        C="GB",
        subjectAltName=("cms1.example.com", "10.0.0.1", "admin@example.com"),
    )

    expected = (
        'pki csr callbridge-3 CN:cms1.example.com O:"Example Ltd" C:GB '
        "subjectAltName:cms1.example.com,10.0.0.1,admin@example.com"
    )
    assert command.line() == expected


@pytest.mark.parametrize("line", sorted({case.line for case in mmp_transcripts.load_all()}))
def test_the_line_of_every_transcript_leads_to_a_command_and_back(line):
    """What a plan lists, `command_of` finds."""
    assert command_of(line).line() == line


@pytest.mark.parametrize(
    "value",
    [
        'a"b',
        "a'b",
        "a\nreboot",
        "a\rreboot",
        "a\\b",
        "a\x03",
        "a\x1b[A",
        "a\u2028b",
        "a`b",
        "",
        " ",
        " a",
        "a ",
        "a\x85b",
    ],
)
def test_values_that_could_leave_their_word_are_refused(value):
    """No value becomes a second word, a second line or a key press."""
    with pytest.raises(InputError):
        quoted(value)


@pytest.mark.parametrize("name", ["../a.crt", "a/b.crt", "-a.crt", "a\nreboot", ""])
def test_file_names_stay_in_the_flat_root(name):
    """Files lie in one folder (mmp-reference 6), and a name that looks like an option is nobody's."""
    with pytest.raises(InputError):
        PkiInspect(name)


def test_a_file_name_with_blanks_is_quoted():
    """A survey must be able to look at what people have put there."""
    assert PkiInspect("my cert (1).crt").line() == 'pki inspect "my cert (1).crt"'


@pytest.mark.parametrize(
    "fault",
    [
        {"basename": "a.b"},
        {"basename": "a b"},
        {"CN": ""},
        {"C": "GBR"},
        {"C": "1 "},
        {"subjectAltName": ("a.example.com,b.example.com",)},
        {"subjectAltName": ("a b",)},
        {"O": 'A "B"'},
    ],
    ids=str,
)
def test_a_faulty_request_is_refused(fault):
    """S1: basename, CN, country and names have their forms."""
    with pytest.raises(InputError):
        PkiCsr(**({"basename": "web", "CN": "web.example.com"} | fault))


@pytest.mark.parametrize(
    "line",
    [
        "webadmin",
        "callbridge",
        "turn",
        "loadbalancer list",
        "pki list",
        "pki inspect callbridge.crt",
        "pki match a.key a.crt",
        "pki verify a.crt ca.crt",
        "database cluster status",
        "version",
        "date",
        "license",
        "user list",
        "help",
        "help pki",
    ],
)
def test_lines_that_only_read_are_known(line):
    """These are sent without standing in a plan."""
    assert is_reading_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "webadmin certs a.key a.crt",
        "webadmin restart",
        "webadmin enable",
        "callbridge trust c2w a.crt",
        "callbridge trust",
        "pki",
        "pki csr a CN:a",
        "pki list x",
        "pki  list",
        "pki list ",
        " pki list",
        "pki list\nreboot",
        "pki inspect a\nreboot",
        'pki inspect "a"',
        "pki inspect a b",
        "PKI list",
        "reboot",
        "date set 2026-11-23",
        "database cluster remove",
        "database cluster",
        "user list; reboot",
        "loadbalancer",
        "backup snapshot x",
        "version x",
        "hostname",
        "",
    ],
)
def test_every_other_line_is_no_reading_line(line):
    """Strict: what is not letter for letter a reading line needs a plan."""
    assert not is_reading_line(line)


def test_reading_and_changing_commands_say_so():
    """The lists and the classes agree."""
    assert {command.changes for command in READING} == {False}
    assert {command.changes for command in CHANGING} == {True}


def test_a_line_of_nobody_is_refused():
    """A plan cannot hold a line this program does not know."""
    with pytest.raises(InputError, match="reboot"):
        command_of("reboot")


def test_a_command_of_unknown_words_is_refused_with_those_there_are():
    """The error says what could have been meant."""
    with pytest.raises(InputError, match="smtp") as caught:
        ServiceStatus("smtp")

    assert "webadmin" in caught.value.remedy()


def test_only_a_load_balancer_has_a_tag():
    """And it must have one."""
    assert ServiceEnable("loadbalancer", "edge1").line() == "loadbalancer enable edge1"
    assert ServiceEnable("turn").line() == "turn enable"
    for process, tag in (("loadbalancer", ""), ("turn", "edge1")):
        with pytest.raises(InputError):
            ServiceEnable(process, tag)


def test_certs_takes_two_or_three_files():
    """The bundle is optional (mmp-reference 4.3)."""
    assert ServiceCerts("turn certs", "a.key", "a.crt").line() == "turn certs a.key a.crt"
    assert ServiceCerts("turn certs", "a.key", "a.crt", "ca.crt").line() == "turn certs a.key a.crt ca.crt"
    assert LoadbalancerAuth("t", "a.key", "a.crt", "b.crt").line() == "loadbalancer auth t a.key a.crt b.crt"


def test_database_moves_expect_one_question_and_a_capital_y():
    """A small y does not proceed (mmp-reference 1.3)."""
    command = command_of("database cluster initialize")

    assert command == DatabaseClusterInitialize()
    assert (command.question, command.answer) == (r"\(Y/n\)", "Y")
    assert (PkiMatch("a", "b").question, PkiMatch("a", "b").answer) == ("", "")


def test_an_address_is_one_word():
    """`join` overwrites data: its argument is checked like the others."""
    assert DatabaseClusterJoin("cms1.example.com").line() == "database cluster join cms1.example.com"
    assert DatabaseClusterJoin("2001:db8::1").line() == "database cluster join 2001:db8::1"
    with pytest.raises(InputError):
        DatabaseClusterJoin("10.0.0.1 x")


def test_every_time_class_has_its_limit():
    """A command without a limit would hang for ever."""
    assert set(TIMEOUTS_S) == set(TimeClass)
    assert PkiCsr("a", CN="a").timeout_s == TIMEOUTS_S[TimeClass.KEY]


def test_help_is_given_as_it_came():
    """Help is for people."""
    assert Help("pki").parse(Reply(command="help pki", text="pki list\npki csr")) == "pki list\npki csr"


def test_a_request_that_was_made_is_ok():
    """`pki csr` has no SUCCESS line; its own wording counts (verbatim, S6)."""
    reply = Reply(command="", text="....\nCreated key file web.key and CSR web.csr")

    assert PkiCsr("web", CN="web.example.com").parse(reply).outcome == Outcome.OK


def test_words_are_the_line_without_its_quotes():
    """Quotes group and vanish."""
    assert words_of('pki csr a O:"Example Ltd" CN:b') == ("pki", "csr", "a", "O:Example Ltd", "CN:b")
