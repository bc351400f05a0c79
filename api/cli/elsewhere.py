"""Where commands do their work: on this machine, or over the API of another one (`certbridge login`).

`--local` and `--remote` decide, then CERTBRIDGE_API_URL ("local" means here) with CERTBRIDGE_TOKEN, then whether
somebody has logged in. The token lies in the keyring of the desktop; where there is none, in a file of mode 0600.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from api.cli.output import note, say
from workflows.errors import InputError, NotSignedIn

if TYPE_CHECKING:
    from api.client import Target

P = ParamSpec("P")
SERVICE = "certbridge"
HERE = "local"


class Choice:
    """What `--local` or `--remote` said, for this process; None: nothing."""

    remote: bool | None = None


def target() -> Target | None:
    """Return the API that commands go to, None: they work on this machine. Raises: NotSignedIn, InputError."""
    from api.client import Target, check_url

    url, token = os.environ.get("CERTBRIDGE_API_URL", ""), os.environ.get("CERTBRIDGE_TOKEN", "")
    if Choice.remote is False or (Choice.remote is None and url == HERE):
        return None
    kept = _read_config()
    url = "" if url == HERE else url
    where = url or str(kept.get("url", ""))
    if not where:
        if Choice.remote:
            raise NotSignedIn("Nobody is logged in to an API.", remedy="Log in: `certbridge login URL`.")
        return None
    where = check_url(where)
    token = token or _read_token(where)
    if not token:
        raise NotSignedIn(f"There is no token for {where}.", remedy=f"Log in: `certbridge login {where}`.")
    ca = os.environ.get("CERTBRIDGE_CA", "") or (str(kept.get("ca", "")) if kept.get("url") == where else "")
    return Target(url=where, token=token, ca=ca)


def need_here(what: str) -> None:
    """Return when commands work on this machine. Raises: InputError."""
    found = target()
    if found is not None:
        raise InputError(
            f"{what} works on the machine of the engine, and you are logged in to {found.url}.",
            remedy="Go there; or, where this machine is meant, put `--local` before the command.",
        )


def over_api(name: str, *, module: str = "remote") -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Let a command call *name* of `api.cli.<module>` with a client and its own options, when that is meant."""

    def wrap(local: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(local)
        def command(*given: P.args, **options: P.kwargs) -> None:
            found = target()
            if found is None:
                local(*given, **options)
                return
            from api.client import Client

            with Client(found) as client:
                getattr(importlib.import_module(f"api.cli.{module}"), name)(client, *given, **options)

        return command

    return wrap


# ── login and logout ─────────────────────────────────────────────────────────────────────────────────────────────────
def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    app.command()(login)
    app.command()(logout)


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of the API, as https://HOST.")],
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input instead of asking for it.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Trust the CAs of this PEM file, not the system's.")
    ] = None,
) -> None:
    """Let commands work over the API of another machine, with a token from its page of settings."""
    from api.client import Client, Target, check_url

    where = check_url(url)
    token = _ask(where, stdin=token_stdin)
    trusted = str(ca.absolute()) if ca else ""
    with Client(Target(url=where, token=token, ca=trusted)) as client:
        name = client.get("/api/me")["name"]
    before = str(_read_config().get("url", ""))
    if before and before != where:
        _forget(before)
    _write_private(_config(), json.dumps({"url": where, "ca": trusted}, sort_keys=True) + "\n")
    kept = _keep(where, token)
    say(f"Logged in to {where} as {name}; the token is in {kept}.")
    note("Commands go there from now on; `--local` before a command means this machine, `certbridge logout` ends it.")


def logout() -> None:
    """Forget the address and the token; commands work on this machine again."""
    where = str(_read_config().get("url", ""))
    if not where:
        note("Nobody is logged in.")
        return
    _forget(where)
    _config().unlink(missing_ok=True)
    say(f"Logged out of {where}.")
    note("The token itself counts until it expires; revoke it on the page of settings where it is not needed any more.")


def _ask(where: str, *, stdin: bool) -> str:
    if stdin:
        token = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        note(f"Make a token on {where}/settings, with the scopes that you need.")
        token = typer.prompt("Token", hide_input=True, err=True).strip()
    else:
        raise InputError("Nobody can be asked for the token here.", remedy="Say `--token-stdin` and send it in.")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("This is no token.", remedy="A token begins with cbt_; copy all of it.")
    return str(token)


def _config() -> Path:
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "certbridge" / "remote.json"


def _token_file() -> Path:
    return _config().with_name("token")


def _read_config() -> Mapping[str, Any]:
    try:
        found = json.loads(_config().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise InputError(f"{_config()} cannot be read.", remedy="Remove it and log in again.") from None
    return found if isinstance(found, dict) else {}


def _keep(where: str, token: str) -> str:
    """Keep *token* and return where, in words."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(SERVICE, where, token)
        if keyring.get_password(SERVICE, where) == token:
            _token_file().unlink(missing_ok=True)
            return "the keyring"
    except (KeyringError, RuntimeError, OSError) as error:
        note(f"no keyring can be used here ({type(error).__name__})", "yellow")
    _write_private(_token_file(), json.dumps({"url": where, "token": token}) + "\n")
    return f"the file {_token_file()}, which only you may read"


def _read_token(where: str) -> str:
    try:
        kept = json.loads(_token_file().read_text())
        if kept.get("url") == where:
            return str(kept["token"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, AttributeError):
        raise InputError(f"{_token_file()} cannot be read.", remedy="Remove it and log in again.") from None
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(SERVICE, where) or ""
    except (KeyringError, RuntimeError, OSError):
        return ""


def _forget(where: str) -> None:
    import keyring
    from keyring.errors import KeyringError

    _token_file().unlink(missing_ok=True)
    try:
        keyring.delete_password(SERVICE, where)
    except (KeyringError, RuntimeError, OSError):
        return  # it was not there, or there is no keyring


def _write_private(file: Path, text: str) -> None:
    from api.cli.surroundings import write_private

    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{file.parent} cannot be made ({error.strerror})", remedy="Set XDG_CONFIG_HOME.") from None
    write_private(file, text.encode())
