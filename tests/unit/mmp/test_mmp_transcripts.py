"""Every transcript means what its file says, and no class claims to be better known than its transcripts."""

from __future__ import annotations

import mmp_transcripts
import pytest

from workflows import errors
from workflows.mmp.commands import CHANGING, READING
from workflows.mmp.replies import Outcome, Standing

ALL = mmp_transcripts.load_all()


@pytest.mark.parametrize("transcript", [case for case in ALL if case.error is None], ids=lambda case: case.name)
def test_a_reply_means_what_its_transcript_says(transcript):
    """The parser of the command gives the recorded result, nothing more and nothing less."""
    assert mmp_transcripts.plain(transcript.parsed()) == transcript.result


@pytest.mark.parametrize("transcript", [case for case in ALL if case.error], ids=lambda case: case.name)
def test_a_reply_without_the_value_is_refused_with_its_text(transcript):
    """The error carries the text of the reply, so that a person sees what came."""
    with pytest.raises(getattr(errors, transcript.error)) as caught:
        transcript.parsed()

    assert caught.value.data["reply"] == transcript.reply


@pytest.mark.parametrize("command", [*READING, *CHANGING], ids=lambda command: command.__name__)
def test_every_command_has_a_transcript(command):
    """A command without any transcript would have an untried parser."""
    assert [case.name for case in ALL if type(case.command) is command]


@pytest.mark.parametrize("command", [*READING, *CHANGING], ids=lambda command: command.__name__)
def test_no_command_claims_to_be_better_known_than_its_transcripts(command):
    """The standing of a class is that of its best transcript, or lower; a guessed file cannot make a class verbatim."""
    order = [Standing.GUESSED, Standing.RECALLED, Standing.VERBATIM]
    best = max(order.index(case.standing) for case in ALL if type(case.command) is command)

    assert order.index(command.standing) <= best


@pytest.mark.parametrize(
    "transcript",
    [case for case in ALL if case.command.changes and case.command.own_standing is Standing.GUESSED],
    ids=lambda case: case.name,
)
def test_a_guessed_reply_is_never_a_success(transcript):
    """Whatever a guessed command answers, the state must be read."""
    assert transcript.parsed().outcome in {Outcome.UNKNOWN, Outcome.REFUSED}
