"""Questions of `certbridge doctor` that only workers' code can answer, asked as a subprocess; JSON on standard output.

`python -m workers.checks NAME…` → {"broker": {"broker": "valkey 9.1.2", "problem": "", "remedy": ""},
"credentials": {"cms": "", "other": "no password or key is known …"}, "strays": "this program runs without …"}; "" is
well. One process answers all of them, because starting it is what takes time.
No secret is ever in an answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from workers import embedded, strays, supervisor
from workers.credentials import Credentials
from workflows.broker import socket_path
from workflows.errors import CertbridgeError, EngineError
from workflows.settings import Settings


def check_credentials(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """Return what hinders each of *names* from being used, "" when nothing does."""
    known = Credentials(settings.state / "credentials.yaml")
    found = {}
    for name in names:
        try:
            known.resolve(name)
            found[name] = ""
        except CertbridgeError as error:
            found[name] = f"{error.message}\n{error.remedy()}"
    return found


def check_broker(settings: Settings) -> dict[str, str]:
    """Return name and version of the broker that answers, or what is wrong with it."""
    own = socket_path(settings.state)
    if not settings.broker_url and not embedded.ping(own):
        if embedded.listens(own):
            problem = "the embedded broker runs, but does not answer"
            return {"broker": "", "problem": problem, "remedy": "Run `certbridge down`, then `certbridge up`."}
        return {"broker": "", "problem": "the embedded broker does not run", "remedy": "Start it with `certbridge up`."}
    try:
        return {"broker": supervisor.check_broker(settings.broker_url or f"unix://{own}"), "problem": "", "remedy": ""}
    except EngineError as error:
        return {"broker": "", "problem": error.message, "remedy": error.remedy()}


def check_strays(settings: Settings) -> str:
    """Return which programs of this state lost their supervisor, "" when none did.

    A broker alone may have been started by hand (`python -m workers.embedded`); then missing workers tell enough.
    """
    found = () if supervisor.is_up(settings) else strays.find(settings)
    return strays.told(found) if any(one.group != "broker" for one in found) else ""


def main(words: Sequence[str]) -> int:
    """Print the answers; *words* are the names of credentials. Returns the exit code."""
    settings = Settings.load()
    answer = {
        "broker": check_broker(settings),
        "credentials": check_credentials(settings, words),
        "strays": check_strays(settings),
    }
    print(json.dumps(answer))  # noqa: T201 - the answer is the output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
