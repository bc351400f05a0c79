"""Failpoints: places at which a test lets a worker die, fail or stall. A tool for tests; nothing happens without it.

    CERTBRIDGE_FAILPOINTS="after_effect:pki csr=kill9@2,once; before_finish=raise"

A rule is NAME[:BEGINNING]=ACTION[@N][,once]. BEGINNING is how the text of the place begins: the line for the four
places round a side effect, the step, barrier or gate for the others. ACTION is `kill9` (this process dies at once),
`raise` (an error that nobody foresaw), `stall:SECONDS` (the whole process stands still, as a stopped one does) or
`effect-then-raise` (it goes on to the next place of the same step, and there the answer is lost). `@N` is the N-th time
only, counted in each process; `once` is once for the whole state folder, so that a worker which was restarted lives.

Each rule without `@N` acts each time. The four places round every side effect on a server are in
`StepContext._noted` (DESIGN.md section 4: intent, act, outcome); those of the journal are where claims, ends of steps,
barriers, gates and the outbox are written.
"""

from __future__ import annotations

import contextvars
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workflows.errors import OutcomeUnknown, SettingsError

VARIABLE = "CERTBRIDGE_FAILPOINTS"

EFFECT = ("before_intent", "after_intent", "after_effect", "after_outcome")
"""The four places round every side effect on a server, in order; their text is the line."""

JOURNAL = (
    "before_claim",
    "after_claim",
    "before_finish",
    "after_finish",
    "before_barrier",
    "after_barrier",
    "before_gate",
    "after_gate",
    "before_send",
    "after_send",
    "after_sign",
)
"""The places of the journal's own steps; their text is a step, barrier, gate or, for the last three, a lane."""

NAMES = (*EFFECT, *JOURNAL)
_ACTIONS = ("kill9", "raise", "stall", "effect-then-raise")

Hook = Callable[[str, str, str], None]
"""Asked with the name of the place, its text, and the step it is in."""


class FailpointRaised(Exception):
    """The error that a failpoint raises: one that nobody foresaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; `nth` 0 is each time, `seconds` is for `stall`."""

    name: str
    beginning: str
    action: str
    seconds: float = 0.0
    nth: int = 0
    once: bool = False


@dataclass(slots=True)
class _Armed:
    """That the next place of the same step or thread is to raise."""

    live: bool = False


_armed: contextvars.ContextVar[_Armed | None] = contextvars.ContextVar("armed", default=None)


def parse(text: str) -> tuple[Rule, ...]:
    """Return the rules in *text*. Raises: SettingsError, with the rule that is wrong."""
    return tuple(_rule(one.strip()) for one in text.split(";") if one.strip())


def _rule(text: str) -> Rule:
    where, _, what = text.rpartition("=")
    name, _, beginning = where.partition(":")
    what, *words = (word.strip() for word in what.split(","))
    what, at, nth = what.partition("@")
    action, _, seconds = what.partition(":")
    try:
        rule = Rule(
            name=name.strip(),
            beginning=beginning.strip(),
            action=action,
            seconds=float(seconds) if action == "stall" else 0.0,
            nth=int(nth) if at else 0,
            once="once" in words,
        )
    except ValueError:
        raise _wrong(text) from None
    if rule.name not in NAMES or action not in _ACTIONS or set(words) - {"once"} or (at and rule.nth < 1):
        raise _wrong(text)
    return rule


def _wrong(text: str) -> SettingsError:
    return SettingsError(
        f"{VARIABLE}: {text!r} is no rule.",
        remedy=f"Unset it: it is for tests. A rule is NAME[:BEGINNING]=ACTION[@N][,once]; names: {', '.join(NAMES)}; "
        "actions: kill9, raise, stall:SECONDS, effect-then-raise.",
    )


@dataclass(slots=True)
class Rules:
    """The hook that carries rules out; `folder` holds the marks of those that act once."""

    rules: tuple[Rule, ...]
    folder: Path
    _hits: dict[Rule, int] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, text: str, where: str) -> None:
        """Do what the first rule for this place says."""
        for rule in self.rules:
            if rule.name == name and text.startswith(rule.beginning) and self._now(rule):
                act(rule.action, f"{name}: {text} ({where})" if where else f"{name}: {text}", seconds=rule.seconds)
                return

    def _now(self, rule: Rule) -> bool:
        with self._counting:
            self._hits[rule] = self._hits.get(rule, 0) + 1
            if rule.nth and self._hits[rule] != rule.nth:
                return False
        return not rule.once or self._first(rule)

    def _first(self, rule: Rule) -> bool:
        """Leave the mark of *rule*; False when somebody left it before."""
        mark = self.folder / hashlib.sha256(repr(rule).encode()).hexdigest()[:16]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        return True


def act(action: str, where: str, *, seconds: float = 0.0) -> None:
    """Carry *action* out. Raises: FailpointRaised."""
    if action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise FailpointRaised(where)
    elif action == "stall":
        time.sleep(seconds)  # the thread of the sessions with all that runs in it, renewals too: that is the point
    else:
        _armed.set(_Armed(live=True))


# None in every process but those of tests: then a place costs one look at this name.
_hook: Hook | None = None


def failpoint(name: str, text: str, where: str = "") -> None:
    """Be at the place *name*; nothing happens unless somebody switched failpoints on."""
    if _hook is None:
        return
    armed = _armed.get()
    if armed is not None and armed.live:
        armed.live = False
        raise OutcomeUnknown(f"A failpoint lost the answer before {name}: {text}.", cut=True)
    _hook(name, text, where)


def switch(hook: Hook | None) -> None:
    """Let *hook* be asked at every place; None switches them off."""
    global _hook  # noqa: PLW0603 - one look at one name is what makes them free when off
    _hook = hook


def switch_on(state: Path, environ: Mapping[str, str] | None = None) -> tuple[Rule, ...]:
    """Switch on what the environment asks for, and return it; () and nothing done when it asks for nothing.

    Raises: SettingsError: what it asks for is no rule.
    """
    rules = parse((os.environ if environ is None else environ).get(VARIABLE, ""))
    switch(Rules(rules, state / "failpoints") if rules else None)
    return rules
