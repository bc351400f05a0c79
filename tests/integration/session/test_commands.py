"""Commands over real SSH: what may be sent, what is answered, and what is never taken for success."""

import asyncio
from dataclasses import replace

import pytest
from conftest import QUICK, until

from workers.session import expects
from workflows.errors import InputError, NotInPlan, OutcomeUnknown, UnexpectedQuestion, UnexpectedReply
from workflows.mmp.commands import (
    PkiInspect,
    PkiList,
    ServiceEnable,
    ServiceStatus,
    Version,
)
from workflows.mmp.replies import Kind, Outcome
from workflows.plan import Line, LineKind


def command(text: str, **more: str) -> Line:
    return Line(kind=LineKind.COMMAND, text=text, **more)


DISABLE, ENABLE = command("webadmin disable"), command("webadmin enable")
SNAPSHOT = command("backup snapshot certbridge")


def test_reading_commands_give_typed_answers(world):
    """A whole survey of one node over one login."""
    with world.session() as session:
        version = world.do(session.ask(Version()))
        files = world.do(session.ask(PkiList()))
        status = world.do(session.ask(ServiceStatus("webadmin")))
        certificate = status.get("Certificate file")
        inspection = world.do(session.ask(PkiInspect(certificate)))
        assert (version[:2], status.get("Enabled"), certificate in files) == ((3, 9), "true", True)
        assert inspection.kind in {Kind.CERTIFICATE, Kind.BUNDLE}
        assert session.hostname == "cmscore1"
    assert world.logins() == ["login"]


def test_planned_line_is_sent_once_and_judged(world):
    """What the plan lists is sent exactly as it stands."""
    with world.session(DISABLE, ENABLE) as session:
        world.do(session.change(DISABLE))
        verdict = world.do(session.change(ENABLE))
    assert verdict.outcome is Outcome.OK
    assert world.fleet.commands("cmscore1") == ("webadmin disable", "webadmin enable")


def test_line_that_is_not_in_the_plan_is_not_sent(world):
    """Also when only the answer to its question differs, and also for a line of another kind."""
    planned = command("database cluster remove", question=r"\(Y/n\)", answer="n")
    with world.session(planned, replace(DISABLE, kind=LineKind.UPLOAD)) as session:
        for line in (DISABLE, replace(planned, answer="Y"), replace(DISABLE, kind=LineKind.UPLOAD)):
            with pytest.raises(NotInPlan):
                world.do(session.change(line))
    assert (world.fleet.commands("cmscore1"), world.logins()) == ((), [])


def test_changing_command_cannot_be_asked(world):
    """`ask` is for reading only, whatever the plan says."""
    with world.session(ENABLE) as session, pytest.raises(NotInPlan):
        world.do(session.ask(ServiceEnable("webadmin")))
    assert world.fleet.commands("cmscore1") == ()


def test_line_with_a_line_end_in_it_is_not_sent(world):
    """One planned line never becomes two."""
    line = command("webadmin disable\nwebadmin enable")
    with world.session(line) as session, pytest.raises(InputError):
        world.do(session.change(line))
    assert world.fleet.commands("cmscore1") == ()


def test_failure_is_a_verdict(world):
    """FAILURE is what the server says, not an error of the session."""
    world.fleet.fault("failure", match="webadmin enable", text="Key and certificate pair do not match")
    with world.session(ENABLE) as session:
        verdict = world.do(session.change(ENABLE))
        assert (verdict.outcome, verdict.failures) == (Outcome.REFUSED, ("Key and certificate pair do not match",))
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert world.logins() == ["login"]


@pytest.mark.parametrize("fault", ["cut-before", "cut-after", "reboot"])
def test_cut_connection_is_unknown_and_never_sent_again(world, fault):
    """A change whose answer never came is not repeated, and not called a success."""
    world.fleet.fault(fault, match="backup snapshot*", seconds=0.1)
    with world.session(SNAPSHOT) as session:
        with pytest.raises(OutcomeUnknown, match="cut during `backup snapshot certbridge`") as caught:
            world.do(session.change(SNAPSHOT))
        assert (caught.value.data["cut"], caught.value.retryable) == (True, True)
        until(lambda: world.answers(session))  # a rebooting server comes back
    assert world.fleet.commands("cmscore1")[0] == SNAPSHOT.text
    assert world.fleet.commands("cmscore1").count(SNAPSHOT.text) == 1
    assert ("certbridge.bak" in world.fleet.files("cmscore1")) is (fault != "cut-before")


@pytest.mark.parametrize("fault", ["cut-before", "cut-after"])
def test_reading_is_repeated_once_after_a_cut(world, fault):
    """A read does no harm twice, so one cut is not worth an error."""
    world.fleet.fault(fault, match="version")
    with world.session() as session:
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert (world.fleet.commands("cmscore1"), world.logins()) == (("version",) * 2, ["login"] * 2)


def test_reading_is_given_up_after_the_second_cut(world):
    """A server that cuts each time is not asked for ever."""
    world.fleet.fault("cut-before", match="version", times=9)
    with world.session() as session, pytest.raises(OutcomeUnknown):
        world.do(session.ask(Version()))
    assert world.fleet.commands("cmscore1") == ("version",) * 2


def test_silence_is_unknown_after_the_time_limit(make_world):
    """A command that hangs ends at its limit; the next one gets a fresh connection, so no late reply is misread."""
    world = make_world(timings=replace(QUICK, command_s=0.5))
    world.fleet.fault("hang", match="backup snapshot*", seconds=1)
    with world.session(SNAPSHOT) as session:
        with pytest.raises(OutcomeUnknown, match=r"no complete answer .* within 0\.5 s"):
            world.do(session.change(SNAPSHOT))
        assert world.do(session.ask(PkiList())) != ()
    assert (world.fleet.commands("cmscore1"), world.logins()) == ((SNAPSHOT.text, "pki list"), ["login"] * 2)


def test_reading_that_hangs_is_not_repeated(make_world):
    """Only a cut is worth a second try; silence costs its limit once."""
    world = make_world(timings=replace(QUICK, command_s=0.5))
    world.fleet.fault("hang", match="version", seconds=1)
    with world.session() as session, pytest.raises(OutcomeUnknown):
        world.do(session.ask(Version()))
    assert world.fleet.commands("cmscore1") == ("version",)


def test_slow_answer_is_waited_for(world):
    """Slow is not silent, and a pause in the middle is no question."""
    world.fleet.fault("slow", match="version", seconds=0.6)
    with world.session() as session:
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert world.logins() == ["login"]


def test_stray_lines_and_bytes_do_no_harm(world):
    """Log lines and bytes that are no text come between; the rows are still found, and the session goes on."""
    world.fleet.fault("garbage", match="webadmin", times=3)
    with world.session() as session:
        for _ in range(3):
            assert world.do(session.ask(ServiceStatus("webadmin"))).get("Enabled") == "true"
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert world.logins() == ["login"]


ASKING = replace(SNAPSHOT, question=r"\(Y/n\)", answer="Y")


def test_expected_question_is_answered_as_planned(world):
    """The server asks (Y/n), the plan says Y."""
    world.fleet.fault("question", match="backup snapshot*", text="Are you sure? (Y/n)")
    with world.session(ASKING) as session:
        assert world.do(session.change(ASKING)).outcome is Outcome.OK
    sent = [line["text"] for line in world.transcript() if line["is"] == "sent"]
    assert sent[-2:] == ["backup snapshot certbridge\n", "Y"]
    assert "certbridge.bak" in world.fleet.files("cmscore1")


def test_unexpected_question_is_not_answered(world):
    """Ctrl-C, the text of the question, and nothing was done."""
    world.fleet.fault("question", match="backup snapshot*", text="Overwrite everything? (Y/n)")
    with world.session(SNAPSHOT) as session:
        with pytest.raises(UnexpectedQuestion, match="Overwrite everything") as caught:
            world.do(session.change(SNAPSHOT))
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert caught.value.data["question"] == "Overwrite everything? (Y/n)"
    assert "certbridge.bak" not in world.fleet.files("cmscore1")
    assert "\x03" in [line["text"] for line in world.transcript() if line["is"] == "sent"]


def shell_that_asks(typed, *questions, echo=True, enter=False):
    """Return a shell that asks *questions* at the first command; *enter*: each wants Enter after the key."""

    async def shell(process):
        def show(text):
            process.stdout.write(text.replace("\n", "\r\n"))

        async def line():
            text = ""
            while (char := await process.stdin.read(1)) not in {"\n", "\r", ""}:
                text += char
            if echo:
                show(text + "\n")
            return text

        show("Welcome\ncms9> ")
        asked = list(questions)
        while not process.stdin.at_eof():
            if await line():
                while asked:
                    show(asked.pop(0))
                    key = await (line() if enter else process.stdin.read(1))
                    typed.append(key)
                    show("\n")
                    if key == "\x03":
                        break
                else:
                    show("certbridge.bak ready for download\n")
            show("cms9> ")

    return shell


@pytest.mark.parametrize("echo", [True, False])
def test_second_question_is_not_answered(world, echo):
    """One planned answer is for one question; the rest is Ctrl-C, with echo and without."""
    typed = []
    with (
        world.server(shell_that_asks(typed, "Sure? (Y/n)", "Really, really? (Y/n)", echo=echo)) as node,
        world.session(ASKING, node=node) as session,
        pytest.raises(UnexpectedQuestion, match="Really, really"),
    ):
        world.do(session.change(ASKING))
    assert typed == ["Y", "\x03"]


@pytest.mark.parametrize("echo", [True, False])
def test_key_that_needs_enter_gets_it(world, echo):
    """Whether the server wants Enter after Y is not known (mmp-reference 1.3); when nothing comes, it gets it.

    Without an echo the connection is not used again, so the second command meets a fresh shell that asks once more.
    """
    typed = []
    with (
        world.server(shell_that_asks(typed, "Sure? (Y/n)", echo=echo, enter=True)) as node,
        world.session(ASKING, node=node) as session,
    ):
        assert world.do(session.change(ASKING)).outcome is Outcome.OK
        assert world.do(session.change(ASKING)).outcome is Outcome.OK
    assert typed == ["Y"] * (1 if echo else 2)


def test_question_while_reading_is_not_answered(world):
    """A read that suddenly asks is stopped."""
    world.fleet.fault("question", match="version", text="Shall I? (Y/n)")
    with world.session() as session, pytest.raises(UnexpectedQuestion, match="Shall I"):
        world.do(session.ask(Version()))


@pytest.mark.parametrize(
    ("planned", "asked", "same"),
    [
        (r"\(Y/n\)", "Are you sure you wish to detach this node? (Y/n)", True),
        ("Are you sure? (Y/n)", "Are you certain? (Y/n)", True),
        ("Please enter pass phrase", "Please  Enter pass phrase:", True),
        ("Please enter pass phrase", "Overwrite? (Y/n)", False),
        ("", "Are you sure? (Y/n)", False),
        (r"\(Y/n\)", "Please enter password:", False),
    ],
)
def test_questions_are_compared_loosely_but_never_without_a_planned_one(planned, asked, same):
    """Wordings are only recalled, so (Y/n) is enough, if the plan expects a question at all."""
    assert expects(command("x", question=planned, answer="Y"), asked) is same


def test_reply_that_means_nothing_leaves_the_session_usable(world):
    """A reply nobody knows is told with node and command."""
    world.fleet.fault("failure", match="pki list", text="something new")
    with world.session() as session:
        with pytest.raises(UnexpectedReply) as caught:
            world.do(session.ask(PkiList()))
        assert (caught.value.data["node"], caught.value.data["command"]) == ("cmscore1", "pki list")
        assert world.do(session.ask(Version()))[:2] == (3, 9)
    assert world.logins() == ["login"]


def test_commands_on_one_node_take_turns(world):
    """Two steps on one node at the same time share the connection, command by command."""

    async def both(node):
        async def ask():
            async with world.connections.session(node, run="run-1") as session:
                return [await session.ask(PkiList()) for _ in range(10)]

        return await asyncio.gather(ask(), ask(), ask())

    answers = world.do(both(world.node()))
    assert {files for each in answers for files in each} == {answers[0][0]}
    phases = [one.phase for one in world.fleet.records("command", "cmscore1")]
    assert (phases, world.logins()) == (["begin", "end"] * 30, ["login"])


def test_session_that_was_cancelled_leaves_nothing_behind(world):
    """A cancelled command may still answer; its connection is not used again."""
    world.fleet.fault("slow", match="version", seconds=0.3)

    async def cancelled(node):
        async with world.connections.session(node, run="run-1") as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await session.ask(Version())
            return await session.ask(PkiList())

    assert world.do(cancelled(world.node())) != ()
    assert world.logins() == ["login"] * 2


def test_transcript_tells_the_whole_story_without_the_password(world):
    """Both ways, in order, and a digest for the journal."""
    with world.session(DISABLE) as session:
        world.do(session.ask(Version()))
        world.do(session.ask(ServiceStatus("turn")))
        world.do(session.change(DISABLE))
        digest = session.transcript.digest()
    lines = world.transcript()
    sent = [line["text"].strip() for line in lines if line["is"] == "sent"]
    assert sent == ["", "version", "turn", "webadmin disable"]
    assert len(digest) == 64
    text = "".join(line["text"] for line in lines)
    assert "Username" in text
    turn_password = next(row for row in text.splitlines() if row.startswith("Password"))
    assert turn_password.endswith("********")
