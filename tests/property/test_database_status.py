"""Laws of reading `database cluster status`: rows of any kind give a status, and marks are taken off file names."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from workers.steps.survey import database_fact, database_state
from workflows.errors import UnexpectedReply
from workflows.facts import CONVERTER, DatabaseFact
from workflows.mmp.replies import parse_database_status

LABELS = st.sampled_from(
    [
        *("Status", "ERROR", "Nodes", "Node in use", "Interface", "Certificates", "Server Certificate"),
        *("  Client Certificate", "  CA Certificate", "Last command", "    10.0.0.1", "    10.0.0.2 (me)", "Schema"),
    ]
)
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            *("", "none", "Enabled", "Disabled", "Error", "Attaching", "a.cer ( Expired )", "( Expired )"),
            *("Connected Primary", "Connected Replica ( In Sync )", "Slave", "Connection Failure", "Primary Replica"),
            *("'database cluster connect 10.0.0.1' (Success)", "'database cluster join x' (Failed)", "(In progress)"),
        ]
    ),
)
FILES = st.from_regex(r"[A-Za-z0-9_-]{1,12}\.(crt|cer|pem|key)", fullmatch=True)


@given(st.lists(st.tuples(LABELS, VALUES), max_size=12))
def test_rows_of_any_kind_give_a_status_a_state_and_json(rows):
    """Or UnexpectedReply, where there is no Status row; never another error."""
    text = "\n".join(f"{label:<25}: {value}" for label, value in rows)
    with contextlib.suppress(UnexpectedReply):
        fact = database_fact(parse_database_status(text))
        database_state(fact)
        assert CONVERTER.loads(CONVERTER.dumps(fact), DatabaseFact) == fact


@given(
    FILES, st.sampled_from(["", " ( Expired )", " (expired)", " - EXPIRED", "  ** has expired **", " ( Not found )"])
)
def test_a_mark_is_never_part_of_a_name(file, mark):
    """`certs` is sent with the names that were read: a mark in one would be refused, or worse."""
    status = parse_database_status(f"Status : Enabled\n  Client Certificate : {file}{mark}")
    assert (status.client_certificate, status.expired) == (file, (file,) if "expired" in mark.lower() else ())
