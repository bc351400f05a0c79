"""What the engine's words are called on pages: statuses, stages, actions, roles, permissions, kinds of events.

Each status also has a mark, so that nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from api import stages
from api.pages import texts
from api.pages.texts import N_, gettext
from workflows.gate import SIGN
from workflows.plan import DATABASE, ROLLBACK

T = TypeVar("T")
STATUSES: Mapping[str, str] = {
    "open": N_("not begun"),
    "ready": N_("ready"),
    "running": N_("running"),
    "waiting": N_("waiting"),
    "done": N_("done"),
    "passed": N_("passed"),
    "approved": N_("approved"),
    "rejected": N_("rejected"),
    "failed": N_("failed"),
    "parked": N_("parked"),
    "stopped": N_("stopped"),
    "paused": N_("paused"),
    "cancelled": N_("cancelled"),
    "excused": N_("left out"),
    "undone": N_("put back"),
    "expired": N_("expired"),
    "mixed": N_("partly done"),
}
_MARKS: Mapping[str, str] = {
    "open": "·",
    "ready": "·",
    "running": "▶",
    "waiting": "◔",
    "done": "✓",
    "passed": "✓",
    "approved": "✓",
    "rejected": "✗",
    "failed": "✗",
    "parked": "✗",
    "stopped": "■",
    "paused": "‖",
    "cancelled": "⊘",
    "excused": "⊖",
    "undone": "↶",
    "expired": "✗",
    "mixed": "◐",
}
STAGES: Mapping[int, str] = {
    50: N_("trust host key"),
    100: N_("survey"),
    200: N_("prepare"),
    300: N_("request"),
    400: N_("sign"),
    500: N_("deliver"),
    550: N_("check again"),
    600: N_("trust"),
    700: N_("apply"),
    800: N_("prove"),
    900: N_("close"),
}
DATABASE_STAGES: Mapping[int, str] = {
    **{number: STAGES[number] for number in (200, 300, 400, 500, 550)},
    600: N_("back up"),
    700: N_("remove"),
    720: N_("initialize"),
    740: N_("join"),
    760: N_("connect"),
    780: N_("upgrade schema"),
    800: STAGES[800],
}
_STAGES_BY_NAME: Mapping[str, str] = {
    name: told[number]
    for named, told in ((stages.STAGES, STAGES), (stages.DATABASE_STAGES, DATABASE_STAGES))
    for number, name in named.items()
}
KINDS: Mapping[str, str] = {
    "renewal": N_("renewal"),
    "database": N_("database cluster"),
    "survey": N_("survey"),
    "trust": N_("host keys"),
    "rollback": N_("rollback"),
    "renew": N_("renew"),
    "build": N_("build"),
    "dissolve": N_("dissolve"),
}
GATES: Mapping[str, str] = {
    "sign": N_("Sign"),
    "go": N_("Go"),
    "point-of-no-return": N_("Point of no return"),
}
GATE_QUESTIONS: Mapping[str, str] = {
    "sign": N_("May these requests go to the CA?"),
    "go": N_("May these certificates be put in service?"),
    "point-of-no-return": N_("May the database cluster be taken apart and built again?"),
}
_BACK = N_("May the servers go back to their old certificates?")
ROLES: Mapping[str, str] = {
    "viewer": N_("viewer"),
    "operator": N_("operator"),
    "approver": N_("approver"),
    "auditor": N_("auditor"),
    "admin": N_("administrator"),
}
PERMISSIONS: Mapping[str, str] = {
    "read": N_("see everything"),
    "operate": N_("survey, plan and run"),
    "decide": N_("approve and reject"),
    "audit": N_("see accounts, verify the journal"),
    "manage": N_("change accounts and webhooks"),
}
DATABASE_STATES: Mapping[str, str] = {
    "primary": N_("primary"),
    "replica": N_("replica"),
    "connected": N_("connected"),
    "joined": N_("joined"),
    "standalone": N_("standalone"),
    "disabled": N_("no database cluster"),
    "none": N_("no database cluster"),
    "busy": N_("at work"),
    "error": N_("error"),
    "unknown": N_("unknown"),
}
EVENTS: Mapping[str, str] = {
    "run_created": N_("run created"),
    "lane_sent": N_("lane sent"),
    "step_claimed": N_("step begun"),
    "step_dropped": N_("message dropped"),
    "intent": N_("line about to be sent"),
    "outcome": N_("outcome of a line"),
    "step_done": N_("step done"),
    "step_failed": N_("step failed"),
    "step_waiting": N_("step waits"),
    "step_parked": N_("step parked"),
    "steps_reopened": N_("steps opened again"),
    "barrier_passed": N_("barrier passed"),
    "lane_stopped": N_("lane stopped"),
    "lane_resumed": N_("lane resumed"),
    "lane_paused": N_("lane paused"),
    "lane_cancelled": N_("lane cancelled"),
    "lane_done": N_("lane done"),
    "gate_opened": N_("gate opened"),
    "gate_approved": N_("gate approved"),
    "gate_rejected": N_("gate rejected"),
    "gate_passed": N_("gate passed"),
    "gate_voted": N_("vote given"),
    "gate_reminded": N_("reminder of a gate"),
    "certificates_delivered": N_("certificates delivered"),
    "facts_recorded": N_("facts recorded"),
    "put_back": N_("put back"),
    "rollback_failed": N_("rollback failed"),
    "host_key_seen": N_("host key seen"),
    "host_key_pinned": N_("host key pinned"),
    "credential_refused": N_("credential refused"),
    "credential_woken": N_("credential woken"),
    "account_changed": N_("account changed"),
    "signed_in": N_("signed in"),
    "sign_in_refused": N_("sign-in refused"),
    "access_refused": N_("access refused"),
    "session_ended": N_("session ended"),
    "token_made": N_("token made"),
    "token_revoked": N_("token revoked"),
    "webhook_changed": N_("webhook changed"),
    "note": N_("note"),
    "run_closed": N_("run closed"),
}
ACTIONS: Mapping[str, str] = {
    "resume": N_("Resume the run"),
    "pause": N_("Pause the run"),
    "cancel": N_("Cancel the run"),
    "rollback": N_("Roll back"),
}
DELIVERIES: Mapping[str, str] = {
    "waiting": N_("waiting"),
    "delivered": N_("delivered"),
    "given up": N_("given up"),
}
VERDICTS: Mapping[str, str] = {
    "intent": N_("sent; no answer yet"),
    "ok": N_("accepted"),
    "refused": N_("refused"),
    "unknown": N_("not known; the server is asked"),
}
_ALL: tuple[Mapping[str, str], ...] = (
    STATUSES,
    KINDS,
    GATES,
    ROLES,
    PERMISSIONS,
    DATABASE_STATES,
    EVENTS,
)


def word(name: str) -> str:
    """Return what *name* is called; a word that is not known is shown as it is."""
    return _called(name, next((every for every in _ALL if name in every), {}))


def mark(status: str) -> str:
    """Return the mark of a status."""
    return _MARKS.get(status, "·")


def stage(number: int, kind: str = "") -> str:
    """Return what a stage of a plan of this *kind* is called."""
    return _called(number, DATABASE_STAGES if kind == DATABASE else STAGES)


def stage_called(name: str) -> str:
    """Return what a stage that plans call *name* (`api.stages`) is called on pages."""
    return gettext(_STAGES_BY_NAME[name]) if name in _STAGES_BY_NAME else name


def question(gate: str, purpose: str = "") -> str:
    """Return what is asked at a gate of a plan with this *purpose*."""
    return gettext(_BACK) if purpose == ROLLBACK and gate != SIGN else _called(gate, GATE_QUESTIONS)


def action(name: str) -> str:
    """Return what is done to a run."""
    return _called(name, ACTIONS)


def waiting(gate: Any) -> str:
    """Return what a gate (see `api.gate_bodies`) waits for."""
    if gate.status == "open":
        missing = sum(stage.missing for stage in gate.stages)
        return texts.ngettext("Waits for %(n)s approval.", "Waits for %(n)s approvals.", missing) % {"n": missing}
    if gate.status == "approved" and gate.gate == SIGN:
        left = len(getattr(gate, "missing", ())) or 0
        if not left:
            return gettext("Waits for the signed certificates.")
        return texts.ngettext("Waits for %(n)s certificate.", "Waits for %(n)s certificates.", left) % {"n": left}
    if gate.status == "approved":
        return gettext("It goes on as soon as it may.")
    return ""


def heat(days: int) -> int:
    """Return how hot so many days left are: 0 (over) to 5 (far away)."""
    return next((level for level, until in enumerate((0, 7, 30, 60, 90)) if days < until), 5)


def clock(at: datetime) -> str:
    """Return the time of day as a drawing writes it."""
    return texts.clock(at)


def span(pair: tuple[int, int]) -> str:
    """Return a predicted length of time in words."""
    return texts.span(*pair)


def verdict(state: str) -> str:
    """Return what came of a line."""
    return _called(state, VERDICTS)


def delivery(state: str) -> str:
    """Return what came of a delivery of a webhook."""
    return _called(state, DELIVERIES)


def _called(name: T, known: Mapping[T, str]) -> str:
    """Return what *name* is called among *known*; what is not known is shown as it is."""
    return gettext(known[name]) if name in known else str(name)
