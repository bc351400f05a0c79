"""Conversations: what a server says, cut into events, told as small scenes."""

from __future__ import annotations

import pytest

from workflows.errors import InputError, UnexpectedReply
from workflows.mmp.conversation import (
    Banner,
    Closed,
    Conversation,
    Echo,
    Keys,
    Output,
    PromptSeen,
    Question,
    Ready,
    Reply,
    State,
    Stray,
)


def ready(prompt=b"cms1> ", *, echo=True, banner=b""):
    """Return a conversation at its prompt that knows whether the server echoes."""
    conversation = Conversation()
    conversation.receive(banner + prompt)
    conversation.start()
    conversation.receive((b"\r\n" if echo else b"") + prompt)
    conversation.send("version")
    conversation.receive((b"version\r\n" if echo else b"") + b"3.9\r\n" + prompt)
    return conversation


def test_a_login_ends_with_the_confirmed_prompt():
    """The prompt is believed when an empty line brings it again."""
    conversation = Conversation()

    assert conversation.receive(b"Welcome to the CMS VM\r\ncms1> ") == [PromptSeen(text="cms1>")]
    assert conversation.start() == b"\n"
    assert conversation.receive(b"\r\ncms1> ") == [Banner(text="Welcome to the CMS VM"), Ready(prompt="cms1>")]
    assert (conversation.state, conversation.prompt) == (State.READY, "cms1>")


def test_a_host_name_with_dots_is_a_prompt():
    """Servers may be named by their FQDN (mmp-reference 1.1)."""
    conversation = Conversation()
    conversation.receive(b"streamer.example.com>")
    conversation.start()

    assert conversation.receive(b"\r\nstreamer.example.com>") == [
        Banner(text=""),
        Ready(prompt="streamer.example.com>"),
    ]


def test_a_banner_that_looks_like_a_prompt_does_not_fool_it():
    """The banner is cut after its ">"; the empty line is sent too early, and nothing is lost."""
    conversation = Conversation()

    assert conversation.receive(b"AUTHORISED>") == [PromptSeen(text="AUTHORISED>")]
    conversation.start()
    assert conversation.receive(b" users only\r\nNOTICE>\r\ncms1> ") == []
    assert conversation.receive(b"\r\ncms1> ") == [
        Banner(text="AUTHORISED> users only\nNOTICE>"),
        Ready(prompt="cms1>"),
    ]


def test_a_server_without_echo_shows_the_two_prompts_on_one_line():
    """Nothing comes between them then."""
    conversation = Conversation()
    conversation.receive(b"cms1> ")
    conversation.start()

    assert conversation.receive(b"cms1> ")[-1] == Ready(prompt="cms1>")


def test_a_prompt_seen_once_is_not_yet_confirmed():
    """A blank after the ">" may come late, and is no second prompt."""
    conversation = Conversation()
    conversation.receive(b"cms1>")
    conversation.start()

    assert conversation.receive(b" ") == []
    assert conversation.state is State.PROBING


def test_a_log_line_on_top_of_the_first_prompt_does_not_hide_it():
    """The prompt stands at the start of that line."""
    conversation = Conversation()
    conversation.receive(b"cms1> ")
    conversation.start()

    events = conversation.receive(b"Nov 23 10:00 local0.info\r\n\r\ncms1> ")
    assert events == [Banner(text=""), Ready(prompt="cms1>")]


def test_nothing_is_sent_before_something_looks_like_a_prompt():
    """An empty line could answer a forced change of password."""
    conversation = Conversation()
    conversation.receive(b"Please enter new password: ")

    with pytest.raises(RuntimeError, match="prompt"):
        conversation.start()
    question = Question(text="Please enter new password:", keys=Keys.LINE, secret=True)
    assert conversation.quiet() == [question]
    with pytest.raises(RuntimeError, match="no question"):
        conversation.answer("new")


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r\x00", b"\r\r\n", b"\r"], ids=repr)
def test_every_kind_of_line_end_ends_one_line(end):
    """Terminals differ (RFC 854)."""
    conversation = ready()
    conversation.send("pki list")

    events = conversation.receive(end.join([b"pki list", b"Files:", b"a.key", b"cms1> "]))
    assert events[-1] == Reply(command="pki list", text="Files:\na.key", prompt="cms1>")


def test_a_reply_is_told_line_by_line_and_then_whole():
    """Echo, lines, reply."""
    conversation = ready()

    assert conversation.send("pki list") == b"pki list\n"
    assert conversation.receive(b"pki list\r\nFiles:\r\na.key\r\ncms1> ") == [
        Echo(),
        Output(line="Files:"),
        Output(line="a.key"),
        Reply(command="pki list", text="Files:\na.key", prompt="cms1>"),
    ]


def test_without_echo_the_answer_begins_at_once():
    """Known after the first answer."""
    conversation = ready(echo=False)

    assert conversation.echoes is False
    conversation.send("pki list")
    assert conversation.receive(b"Files:\r\na.key\r\ncms1> ")[-1].lines == ("Files:", "a.key")


def test_without_echo_a_line_that_equals_the_command_is_output():
    """Help on help, say."""
    conversation = ready(echo=False)
    conversation.send("help")

    assert conversation.receive(b"help\r\npki\r\ncms1> ")[-1].lines == ("help", "pki")


def test_a_silent_command_has_an_empty_reply():
    """As `certs` and `trust` do."""
    conversation = ready()
    conversation.send("webadmin certs a.key a.crt")

    reply = conversation.receive(b"webadmin certs a.key a.crt\r\ncms1> ")[-1]
    assert (reply.text, reply.lines) == ("", ())


def test_escape_sequences_are_not_seen():
    """Colours, bracketed paste, titles, character sets, erase to end of line."""
    conversation = ready()
    conversation.send("pki list")

    data = b"\x1b[?2004lpki list\r\n\x1b]0;title\x07\x1b[1;31mFiles:\x1b[0m\r\n"
    data += b"\x1b(Ba.key\x07\r\n\r\x1b[K\x1b[?2004hcms1> "
    assert conversation.receive(data)[-1].text == "Files:\na.key\n"


def test_a_broken_escape_sequence_hides_no_line():
    """A title without end may not swallow the reply."""
    conversation = ready()
    conversation.send("pki list")

    assert conversation.receive(b"pki list\r\n\x1b]0;title\r\na.key\r\ncms1> ")[-1].lines[-1] == "a.key"


def test_bytes_that_are_no_utf_8_are_replaced():
    """Any byte is survived."""
    conversation = ready()
    conversation.send("pki list")

    assert conversation.receive(b"pki list\r\na\xff\r\ncms1> ")[-1].text == "a\ufffd"


def test_a_wrapped_echo_is_an_echo():
    """A line editor wraps at the width of its terminal: blank, return, or a new line."""
    conversation = ready()
    conversation.send("pki csr web CN:web.example.com subjectAltName:web.example.com")

    events = conversation.receive(
        b"pki csr web CN:web.ex \ramp\r\nle.com subjectAltName:web.example.com\r\n....\r\ncms1> "
    )
    assert [type(event) for event in events] == [Echo, Output, Reply]


def test_a_redrawn_prompt_before_the_echo_belongs_to_the_echo():
    """Line editors draw the prompt again after a log line."""
    conversation = ready()
    conversation.send("pki list")

    assert conversation.receive(b"\rcms1> pki list\r\na.key\r\ncms1> ")[0] == Echo()


def test_a_late_prompt_does_not_end_the_next_reply():
    """Where the server echoes, an answer begins after its echo."""
    conversation = ready()
    conversation.send("pki list")

    assert conversation.receive(b"\r\ncms1> ") == []
    assert conversation.receive(b"pki list\r\na.key\r\ncms1> ")[-1].text == "a.key"


def test_late_output_belongs_to_no_reply():
    """It is told as stray, before and after the line was sent."""
    conversation = ready()

    assert conversation.receive(b"late one\r\n") == [Stray(line="late one")]
    conversation.send("pki list")
    events = conversation.receive(b"late two\r\npki list\r\na.key\r\ncms1> ")
    assert events[:2] == [Stray(line="late two"), Echo()]
    assert events[-1].text == "a.key"


def test_a_log_line_within_a_reply_stays_in_it():
    """It cannot be told from output; parsers keep rows they do not know."""
    conversation = ready()
    conversation.send("pki list")

    events = conversation.receive(b"pki list\r\nNov 23 10:00 cli: User admin\r\na.key\r\ncms1> ")
    assert events[-1].lines == ("Nov 23 10:00 cli: User admin", "a.key")


def test_the_prompt_within_a_line_is_output():
    """Only at the start of a line, with nothing after it, is it a prompt."""
    conversation = ready()
    conversation.send("help")

    events = conversation.receive(b"help\r\ntype at cms1> \r\ncms1> pki shows more\r\ncms2> \r\ncms1> ")
    assert events[-1].lines == ("type at cms1> ", "cms1> pki shows more", "cms2> ")


def test_a_log_line_that_hides_the_prompt_is_noticed_when_it_gets_quiet():
    """The server waits at its prompt, and a log line was written onto it."""
    conversation = ready()
    conversation.send("pki list")
    conversation.receive(b"pki list\r\na.key\r\ncms1> Nov 23 10:00 local0.info\r\n")

    reply = Reply(command="pki list", text="a.key", prompt="cms1>")
    assert conversation.quiet() == [reply, Stray(line="Nov 23 10:00 local0.info")]
    assert conversation.quiet() == []


def test_a_slow_command_is_not_taken_for_a_question():
    """`pki csr` prints dots while it makes a key."""
    conversation = ready()
    conversation.send("pki csr web CN:web.example.com")
    conversation.receive(b"pki csr web CN:web.example.com\r\n.......")

    assert conversation.quiet() == []
    assert conversation.state is State.REPLYING


def test_a_one_key_question_takes_one_key_without_line_end():
    """And its text is what the plan's expected question is searched in."""
    conversation = ready()
    conversation.send("database cluster initialize")
    events = conversation.receive(
        b"database cluster initialize\r\nWARNING!!!\r\nAre you sure? (Y/n)\r\nAll will change.\r\n"
    )

    question = Question(text="Are you sure? (Y/n)", keys=Keys.SINGLE, before=("WARNING!!!",))
    assert [event for event in events if isinstance(event, Question)] == [question]
    assert conversation.answer("Y") == b"Y"
    assert conversation.enter() == b"\n"
    reply = conversation.receive(b"Initialization started...\r\ncms1> ")[-1]
    assert reply.lines == ("WARNING!!!", "Are you sure? (Y/n)", "All will change.", "Initialization started...")


def test_the_prompt_after_an_enter_too_many_is_late():
    """Enter after the key is safe where the server echoes."""
    conversation = ready()
    conversation.send("database cluster initialize")
    conversation.receive(b"database cluster initialize\r\nSure? (Y/n)")
    conversation.answer("Y")
    conversation.enter()

    assert conversation.receive(b"Y\r\nStarted\r\ncms1> \r\ncms1> ")[-1].text == "Sure? (Y/n)Y\nStarted"
    conversation.send("version")
    assert conversation.receive(b"version\r\n3.9\r\ncms1> ")[-1].text == "3.9"


def test_a_password_question_takes_a_line_that_shows_nowhere():
    """Not even when the server echoes it."""
    conversation = ready()
    conversation.send("uploader cms password")
    events = conversation.receive(b"uploader cms password\r\nPlease enter password:")

    assert events[-1] == Question(text="Please enter password:", keys=Keys.LINE, secret=True)
    assert conversation.answer("geheim") == b"geheim\n"
    events = conversation.receive(b"geheim\r\nset to geheim\r\ncms1> ")
    assert "geheim" not in repr(events)
    assert events[-1].lines == ("Please enter password:********", "set to ********")


def test_a_secret_line_shows_nowhere():
    """Its echo is recognised, and hidden."""
    conversation = ready()
    conversation.send("turn credentials admin Cisco.123 cms.demo", secret=True)

    events = conversation.receive(b"turn credentials admin Cisco.123 cms.demo\r\ncms1> ")
    assert [type(event) for event in events] == [Echo, Reply]
    assert "Cisco.123" not in repr(events)


def test_a_question_of_no_known_form_is_told_when_it_gets_quiet():
    """An unfinished line that ends like a question."""
    conversation = ready()
    conversation.send("reboot")
    conversation.receive(b"reboot\r\nReally? ")

    assert conversation.quiet() == [Question(text="Really?", keys=Keys.LINE)]
    assert conversation.quiet() == []
    assert conversation.answer("yes") == b"yes\n"


def test_a_status_row_cut_short_is_no_question():
    """`turn` prints a Password row; a slow line may stop right after its colon."""
    conversation = ready()
    conversation.send("turn")

    assert conversation.receive(b"turn\r\nPassword                : ") == [Echo()]
    assert conversation.quiet() == []


def test_a_question_to_the_first_line_of_a_server_without_echo_is_a_question():
    """That nothing is echoed is learned from it."""
    conversation = Conversation()
    conversation.receive(b"cms1> ")
    conversation.start()
    conversation.receive(b"cms1> ")
    conversation.send("reboot")

    assert conversation.receive(b"WARNING\r\nSure? (Y/n)") == [
        Output(line="WARNING"),
        Question(text="Sure? (Y/n)", keys=Keys.SINGLE, before=("WARNING",)),
    ]
    assert conversation.echoes is False


def test_one_key_means_one_key():
    """More would be typed ahead into whatever comes next."""
    conversation = ready()
    conversation.send("reboot")
    conversation.receive(b"reboot\r\nSure? (Y/n)")

    with pytest.raises(InputError, match="one key"):
        conversation.answer("Yes")
    assert conversation.answer("Yes", keys=Keys.LINE) == b"Yes\n"


def test_ctrl_c_ends_an_unexpected_question():
    """The question is not answered; the next prompt ends the reply, and says so."""
    conversation = ready()
    conversation.send("reboot")
    conversation.receive(b"reboot\r\nSure? (Y/n)")

    assert conversation.interrupt() == b"\x03"
    reply = conversation.receive(b"^C\r\ncms1> ")[-1]
    assert (reply.interrupted, reply.text) == (True, "Sure? (Y/n)^C")
    assert conversation.interrupt() == b""


def test_ctrl_c_ends_a_command_whose_echo_never_came():
    """A prompt is then enough."""
    conversation = ready()
    conversation.send("syslog follow")
    conversation.interrupt()

    assert conversation.receive(b"^C\r\ncms1> ")[-1].interrupted is True


def test_a_server_that_stops_asking_ends_the_reply():
    """Its own time limit, say."""
    conversation = ready()
    conversation.send("reboot")
    conversation.receive(b"reboot\r\nSure? (Y/n)")

    assert conversation.receive(b"\r\nTimed out\r\ncms1> ")[-1].lines == ("Sure? (Y/n)", "Timed out")
    with pytest.raises(RuntimeError, match="no question"):
        conversation.answer("Y")


def test_the_end_of_the_stream_says_what_was_unanswered():
    """The outcome of that command is not known."""
    conversation = ready()
    conversation.send("callbridge restart")
    conversation.receive(b"callbridge restart\r\nSUCCESS: one\r\nSUCC")

    assert conversation.end() == [Closed(command="callbridge restart", text="SUCCESS: one\nSUCC")]
    assert conversation.end() == []
    with pytest.raises(UnexpectedReply, match="over"):
        conversation.receive(b"x")


def test_the_end_of_an_idle_stream_leaves_nothing_unanswered():
    """Nothing was asked."""
    assert ready().end() == [Closed(command="", text="")]


def test_a_reply_without_end_is_refused():
    """Memory is bounded."""
    conversation = Conversation(longest_reply=1000)
    conversation.receive(b"cms1> ")
    conversation.start()
    conversation.receive(b"\r\ncms1> ")
    conversation.send("syslog follow")

    conversation.receive(b"Nov 23 10:00 local0.info\r\n" * 38)
    with pytest.raises(UnexpectedReply, match="1000 bytes"):
        conversation.receive(b"Nov 23 10:00 local0.info\r\n")
    assert conversation.state is State.CLOSED


def test_a_line_without_end_is_refused():
    """No real line is that long, and adding to it byte by byte would get slower and slower."""
    conversation = ready()
    conversation.send("pki list")

    with pytest.raises(UnexpectedReply, match="65536 characters"):
        conversation.receive(b"pki list\r\n" + b"x" * 65537)


def test_every_reply_may_have_the_full_length():
    """The bound is per reply, not per connection."""
    conversation = Conversation(longest_reply=200)
    conversation.receive(b"cms1> ")
    conversation.start()
    conversation.receive(b"\r\ncms1> ")

    for _ in range(5):
        conversation.send("pki list")
        assert conversation.receive(b"pki list\r\n" + b"x" * 150 + b"\r\ncms1> ")[-1].text == "x" * 150


@pytest.mark.parametrize("line", ["a\nb", "a\rb", "a\x03", "a\x1b", "a\x00", "a\u2028b", "a\x9bb", "a\ud800"], ids=repr)
def test_a_line_that_would_be_more_than_a_line_is_not_sent(line):
    """The last wall against an injected line."""
    conversation = ready()

    with pytest.raises(InputError):
        conversation.send(line)
    assert conversation.state is State.READY


def test_two_lines_at_a_time_are_a_fault_of_the_caller():
    """Commands are one at a time per node."""
    conversation = ready()
    conversation.send("pki list")

    with pytest.raises(RuntimeError, match="send is not possible in state sent"):
        conversation.send("pki list")
    with pytest.raises(RuntimeError, match="Enter"):
        conversation.enter()


def test_the_line_end_is_that_of_the_terminal():
    """Some want a return."""
    conversation = Conversation(line_end=b"\r")
    conversation.receive(b"cms1> ")

    assert conversation.start() == b"\r"
