"""Failpoints: what a rule says, that nothing happens without one, and that no way to a server leads past them."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli.doctor import FAILPOINTS, Verdict, check_failpoints
from workers import failpoints
from workers.failpoints import EFFECT, NAMES, VARIABLE, FailpointRaised, Rule, Rules, failpoint, parse, switch_on
from workers.session import NodeSession
from workflows.errors import OutcomeUnknown, SettingsError

ROOT = Path(__file__).parents[3]
CHANGING = {"change", "upload", "rename", "delete"}


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    """Leave no failpoint behind."""
    yield
    failpoints.switch(None)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "after_effect:pki csr=kill9@2",
            Rule(name="after_effect", beginning="pki csr", action="kill9", nth=2),
        ),
        (
            "after_effect:pki csr a CN:b.example O=c=kill9@2,once",
            Rule(name="after_effect", beginning="pki csr a CN:b.example O=c", action="kill9", nth=2, once=True),
        ),
        ("before_finish=raise", Rule(name="before_finish", beginning="", action="raise")),
        ("after_claim = stall:1.5", Rule(name="after_claim", beginning="", action="stall", seconds=1.5)),
        (
            "after_intent:a.crt=effect-then-raise,once",
            Rule(name="after_intent", beginning="a.crt", action="effect-then-raise", once=True),
        ),
    ],
)
def test_rule_is_read(text, rule):
    """Name, beginning of the line (which may hold any sign), action, which time, and whether once."""
    assert parse(f"; {text} ;") == (rule,)


@pytest.mark.parametrize(
    "text",
    [
        "after_effect",
        "after_effect=",
        "after=kill9",
        "after_effect=kill",
        "after_effect=stall",
        "after_effect=stall:long",
        "after_effect=kill9@0",
        "after_effect=kill9@x",
        "after_effect=kill9,twice",
    ],
)
def test_what_is_no_rule_is_refused_with_its_remedy(text):
    """A worker does not start on a rule that it does not understand."""
    with pytest.raises(SettingsError, match="no rule") as caught:
        parse(f"before_finish=raise;{text}")
    assert caught.value.remedy().startswith("Unset it: it is for tests.")


# ── what they do ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}])
def test_nothing_happens_when_nothing_is_asked_for(tmp_path, environ):
    """No rule, no hook, no folder; and a place costs less than a millionth of a second."""
    assert switch_on(tmp_path, environ) == ()
    began = time.perf_counter()
    for _ in range(10_000):
        failpoint("after_effect", "pki csr a")
    assert time.perf_counter() - began < 0.05
    assert (failpoints._hook, list(tmp_path.iterdir())) == (None, [])


def test_failpoints_come_from_the_environment_alone(tmp_path):
    """What is set there is switched on, and what is no longer set is off."""
    assert switch_on(tmp_path, {VARIABLE: "before_finish=raise"}) != ()
    with pytest.raises(FailpointRaised, match="before_finish: seoul/x"):
        failpoint("before_finish", "seoul/x")
    switch_on(tmp_path, {})
    failpoint("before_finish", "seoul/x")


def test_only_the_line_that_was_meant_is_hit_and_only_the_nth_time(tmp_path):
    """Another place, another line and another time pass."""
    failpoints.switch(Rules(parse("after_effect:pki csr=raise@2"), tmp_path))
    failpoint("after_outcome", "pki csr a")
    failpoint("after_effect", "callbridge restart")
    failpoint("after_effect", "pki csr a")
    with pytest.raises(FailpointRaised):
        failpoint("after_effect", "pki csr b")
    failpoint("after_effect", "pki csr c")


def test_once_is_once_for_the_state_folder(tmp_path):
    """A second process, which counts anew, finds the mark."""
    rules = parse("after_effect=raise,once")
    failpoints.switch(Rules(rules, tmp_path / "failpoints"))
    with pytest.raises(FailpointRaised):
        failpoint("after_effect", "x")
    failpoints.switch(Rules(rules, tmp_path / "failpoints"))
    failpoint("after_effect", "x")
    assert len(list((tmp_path / "failpoints").iterdir())) == 1


def test_effect_then_raise_loses_the_answer_at_the_next_place(tmp_path):
    """What comes between is done; then the error is that of an answer which was lost, once."""
    failpoints.switch(Rules(parse("after_intent=effect-then-raise@1"), tmp_path))
    failpoint("after_intent", "x")
    with pytest.raises(OutcomeUnknown):
        failpoint("after_effect", "x")
    failpoint("after_outcome", "x")


def test_stall_holds_the_thread_up(tmp_path):
    """For the seconds that were asked for."""
    failpoints.switch(Rules(parse("after_intent=stall:0.2"), tmp_path))
    began = time.monotonic()
    failpoint("after_intent", "x")
    assert time.monotonic() - began >= 0.2


def test_kill9_ends_the_process_at_once(tmp_path):
    """Nothing behind the place is done, not even what is to be done at every end."""
    program = (
        "from workers.failpoints import failpoint, switch_on; from pathlib import Path\n"
        f"switch_on(Path({str(tmp_path)!r}), {{{VARIABLE!r}: 'after_intent=kill9'}})\n"
        "try:\n    failpoint('after_intent', 'x')\nfinally:\n    print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (-9, "")


# ── never by accident ────────────────────────────────────────────────────────────────────────────────────────────────
def test_doctor_fails_when_they_are_set():
    """The variable is named, with what it says; without it doctor says nothing of it."""
    assert FAILPOINTS == VARIABLE
    assert list(check_failpoints({})) == []
    (found,) = check_failpoints({VARIABLE: "after_effect=kill9"})
    assert (found.verdict, "after_effect=kill9" in found.text) == (Verdict.FAILED, True)


def test_every_name_stands_in_the_reference():
    """A new place is described when it is made."""
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []


# ── complete ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield (file, function, call) of every call of a method in `workers`."""
    for path in sorted((ROOT / "workers").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT / "workers")), function.name, node


def _called(call: ast.Call) -> tuple[str, str]:
    """Return (what it is called on, method) of a call."""
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return "", ast.unparse(call.func)


def test_all_that_changes_a_server_goes_through_one_place():
    """`NodeSession`'s changing methods are called by what `StepContext.change` and `upload` hand to `_noted` alone."""
    assert set(vars(NodeSession)) >= CHANGING
    found = {
        (file, function, method)
        for file, function, call in _calls()
        for owner, method in [_called(call)]
        if method in CHANGING and owner.split(".")[-1] not in {"context", "self"} and "client" not in owner
    }
    files = {("session.py", "rename", "rename"), ("session.py", "delete", "delete")}  # the shell's own files
    assert {one for one in found if one[:2] != ("context.py", "act")} - files == {
        ("context.py", "change", "rename"),
        ("context.py", "change", "delete"),
        ("context.py", "change", "change"),
        ("context.py", "upload", "upload"),
    }
    noted = {(file, function) for file, function, call in _calls() if _called(call) == ("self", "_noted")}
    assert noted == {("context.py", "change"), ("context.py", "upload")}


def test_what_writes_to_a_connection_is_called_by_the_session_alone():
    """The shell's `exchange` and the files' `write`, `rename` and `delete` have no other callers."""
    found = {
        (file, function)
        for file, function, call in _calls()
        if _called(call)[1] == "exchange" or (_called(call)[1] == "write" and "files" in _called(call)[0])
    }
    assert {file for file, _ in found} == {"session.py"}


def test_the_four_places_stand_round_the_act_in_order():
    """Before the intent, behind it, behind the act, behind the outcome: nothing else comes between."""
    tree = ast.parse((ROOT / "workers/context.py").read_text(encoding="utf-8"))
    (noted,) = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == "_noted"]
    calls = sorted((node for node in ast.walk(noted) if isinstance(node, ast.Call)), key=lambda node: node.lineno)
    wanted = {"failpoint", "claims_intent", "act", "_must_hold"}
    said = [
        str(ast.literal_eval(call.args[0])) if _called(call)[1] == "failpoint" else _called(call)[1]
        for call in calls
        if _called(call)[1] in wanted
    ]
    assert said == [EFFECT[0], "claims_intent", EFFECT[1], "_must_hold", "act", EFFECT[2], EFFECT[3]]
