"""A process that keeps the journal as a worker does, to be killed or to be given a bad disk: `scribe.py URL LOG NAME`.

It claims step NAME and "sends" 25 commands: intent, a line in LOG (which stands for the server's own log), outcome.
After each it prints "ok NUMBER", or "failed NUMBER" when the journal could not be written, and goes on with the next.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.integration.journal.world import must_take
from workflows.errors import JournalError
from workflows.journal import Journal
from workflows.journal.claims import finish, intent, outcome

COMMANDS = 25


def main() -> None:
    """Carry the step out as far as the disk lets it."""
    url, log, name = sys.argv[1:]
    with Journal.open(url) as journal, Path(log).open("ab", buffering=0) as server:
        claimed = must_take(journal, name, holder=f"scribe:{os.getpid()}")
        for number in range(COMMANDS):
            try:
                journal.write(partial(intent, claim=claimed, line_no=number, text="pki csr x"))
                server.write(f"{name} {number}\n".encode())
                journal.write(partial(outcome, claim=claimed, line_no=number, state="ok"))
                say("ok", number)
            except JournalError:
                say("failed", number)
        for _ in range(COMMANDS):
            with suppress(JournalError):
                journal.write(partial(finish, claim=claimed, status="done"))
                say("done", COMMANDS)
                return


def say(word: str, number: int) -> None:
    """Tell whoever started this, at once."""
    os.write(1, f"{word} {number}\n".encode())


if __name__ == "__main__":
    main()
