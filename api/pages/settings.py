"""Settings: one's own account; for those who may: users and roles, webhooks, and how the whole stands."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import SecretStr, ValidationError

from api.auth.identity import oneself
from api.here import Here
from api.pages.drawing import draw
from api.pages.reading import Auditor, Manager
from api.pages.runs import flower_for
from api.problems import status_of
from api.routes import sessions, tokens, users, webhooks
from workflows.errors import Clash, InputError, NotAllowed
from workflows.journal import stock
from workflows.journal.telling import TYPES
from workflows.people import Permission, Person, Role, read_grant

router = APIRouter(include_in_schema=False)
Oneself = Annotated[Person, oneself(session=True)]
Text = Annotated[str, Form(max_length=2000)]
Texts = Annotated[list[str] | None, Form()]
_MOST = 500


# ── one's own account ────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/settings")
def show_account(who: Oneself, here: Here, request: Request) -> Response:
    """Show one's own account, sessions and tokens."""
    return _account(who, here, request)


@router.post("/settings/password")
def change_password(who: Oneself, here: Here, request: Request, current: Text, new: Text, again: Text = "") -> Response:
    """Change one's password; what is wrong is said beside the form."""
    try:
        if new != again:
            raise InputError("The two passwords differ.", remedy="Type the same one twice.")  # noqa: TRY301
        users.change_password(who, here, request, users.NewPassword(current=SecretStr(current), new=SecretStr(new)))
    except (InputError, NotAllowed) as error:
        return _account(who, here, request, status=status_of(error), wrong=error)
    return RedirectResponse("/settings?done=password", 303)


@router.post("/settings/sessions/{session}/end")
def end_session(who: Oneself, here: Here, session: str) -> RedirectResponse:
    """End a session."""
    sessions.end_session(who, here, session)
    return RedirectResponse("/settings", 303)


@router.post("/settings/sessions/end")
def end_sessions(who: Oneself, here: Here, request: Request) -> RedirectResponse:
    """End all of one's sessions but this one."""
    sessions.end_sessions(who, here, request)
    return RedirectResponse("/settings", 303)


@router.post("/settings/tokens")
def make_token(
    who: Oneself, here: Here, request: Request, name: Text, scopes: Texts = None, days: Annotated[int, Form()] = 90
) -> Response:
    """Make a token; its secret is shown this once."""
    body = body_of(tokens.NewToken, name=name, scopes=scopes or [], days=days)
    return _account(who, here, request, made=tokens.make_token(who, here, body))


@router.post("/settings/tokens/{token}/revoke")
def revoke_token(who: Oneself, here: Here, token: str) -> RedirectResponse:
    """Let a token open nothing any more."""
    tokens.revoke_token(who, here, token)
    return RedirectResponse("/settings", 303)


def _account(who: Person, here: Here, request: Request, *, status: int = 200, **more: Any) -> Response:
    mine = tokens.list_tokens(who, here, limit=_MOST, offset=0).items
    values: dict[str, Any] = {
        "me": users.me(who, here),
        "sessions": sessions.list_sessions(who, here, request, limit=_MOST, offset=0).items,
        "tokens": [one for one in mine if one.active],
        "permissions": [one for one in Permission if who.may(one)],
        "done": request.query_params.get("done", ""),
        "made": None,
        "wrong": None,
    }
    return draw(request, "settings_account.html", status=status, **(values | more))


# ── users and roles ──────────────────────────────────────────────────────────────────────────────────────────────────
@router.get("/settings/users")
def show_users(who: Auditor, here: Here, request: Request) -> Response:
    """Show all accounts."""
    return _users(who, here, request)


@router.post("/settings/users")
def add_user(
    who: Manager, here: Here, request: Request, name: Text, display: Text = "", grants: Text = "", groups: Text = ""
) -> Response:
    """Make an account with its invitation, which is shown this once."""
    try:
        body = body_of(users.NewUser, name=name, display=display, grants=_grants(grants), groups=_words(groups))
        made = users.add_user(who, here, body)
    except (InputError, Clash) as error:
        typed = {"name": name, "display": display, "grants": grants, "groups": groups}
        return _users(who, here, request, status=status_of(error), wrong=error, typed=typed)
    return _users(who, here, request, invitation=users.invite_user(who, here, request, made.account))


@router.post("/settings/users/{account}")
def change_user(
    who: Manager, here: Here, request: Request, account: str, grants: Text = "", groups: Text = "", active: Text = ""
) -> Response:
    """Change what is granted to an account, its groups, and whether it may sign in."""
    try:
        body = body_of(users.ChangedUser, grants=_grants(grants), groups=_words(groups), active=bool(active))
        users.change_user(who, here, account, body)
    except (InputError, Clash) as error:
        typed = {"account": account, "grants": grants, "groups": groups, "active": active}
        return _users(who, here, request, status=status_of(error), wrong=error, typed=typed)
    return RedirectResponse("/settings/users", 303)


@router.post("/settings/users/{account}/invitation")
def invite(who: Manager, here: Here, request: Request, account: str) -> Response:
    """Make a new invitation; it is shown this once."""
    return _users(who, here, request, invitation=users.invite_user(who, here, request, account))


def _users(who: Person, here: Here, request: Request, *, status: int = 200, **more: Any) -> Response:
    """Show the accounts; what is `wrong` stands beside its form, which keeps what was `typed`."""
    page = users.list_users(who, here, limit=_MOST, offset=0)
    values: dict[str, Any] = {"users": page.items, "roles": [one.value for one in Role], "invitation": None}
    blank = dict.fromkeys(("account", "name", "display", "grants", "groups", "active"), "")
    values |= {"wrong": None, "typed": blank}
    if "typed" in more:
        more["typed"] = blank | more["typed"]
    return draw(request, "settings_users.html", status=status, **(values | more))


def _grants(text: str) -> list[dict[str, str]]:
    """Return "operator, approver@seoul" as grants. Raises: InputError: one is no role."""
    try:
        found = [read_grant(one) for one in _words(text)]
    except ValueError as error:
        raise InputError(
            f"This is no role: {error}.", remedy=f"Roles are {', '.join(Role)}; for one cluster ROLE@CLUSTER."
        ) from None
    return [{"role": one.role.value, "cluster": one.cluster} for one in found]


def _words(text: str) -> list[str]:
    return [one for one in text.replace(",", " ").split() if one]


# ── webhooks, and how the whole stands ───────────────────────────────────────────────────────────────────────────────
@router.get("/settings/webhooks")
def show_webhooks(who: Auditor, here: Here, request: Request) -> Response:
    """Show webhooks and what came of their last deliveries."""
    return _webhooks(who, here, request)


@router.post("/settings/webhooks")
def add_webhook(who: Manager, here: Here, request: Request, url: Text, kinds: Texts = None) -> Response:
    """Make a webhook; the secret it signs with is shown this once."""
    wanted = body_of(webhooks.NewWebhook, url=url, kinds=kinds or [])
    return _webhooks(who, here, request, made=webhooks.make_webhook(who, here, wanted))


@router.post("/settings/webhooks/{webhook}/test")
def test_webhook(who: Manager, here: Here, webhook: str) -> RedirectResponse:
    """Send a test."""
    webhooks.test_webhook(who, here, webhook)
    return RedirectResponse("/settings/webhooks", 303)


@router.post("/settings/webhooks/{webhook}/remove")
def remove_webhook(who: Manager, here: Here, webhook: str) -> RedirectResponse:
    """Remove a webhook."""
    webhooks.remove_webhook(who, here, webhook)
    return RedirectResponse("/settings/webhooks", 303)


def _webhooks(who: Person, here: Here, request: Request, **more: Any) -> Response:
    items = webhooks.list_webhooks(who, here, limit=_MOST, offset=0).items
    last = {
        one.webhook: webhooks.list_webhook_deliveries(who, here, one.webhook, limit=5, offset=0).items for one in items
    }
    values: dict[str, Any] = {"webhooks": items, "last": last, "made": None, "kinds": TYPES}
    return draw(request, "settings_webhooks.html", **(values | more))


@router.get("/settings/about")
def show_about(who: Oneself, here: Here, request: Request) -> Response:
    """Show how the whole stands: workers, release, how people sign in."""
    return draw(
        request,
        "settings_about.html",
        workers=here.journal.read(partial(stock.workers, within_s=60)),
        version=request.app.version,
        oidc=here.settings.oidc_name if here.settings.has_oidc else "",
        flower=flower_for(who, here),
    )


def body_of(model: Any, **values: Any) -> Any:
    """Return *values* as the body that a route takes. Raises: InputError with what is wrong."""
    try:
        return model(**values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InputError(said, remedy="Go back and mend it.") from None
