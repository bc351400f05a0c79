"""What the connections ask the journal: pinned host keys, and which credentials rest."""

from __future__ import annotations

import uuid

from workflows.journal import stock
from workflows.journal.store import Journal


class JournalPins:
    """Pinned host keys by address and port, read anew each time: a person may pin while workers run."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def host_key(self, address: str, port: int) -> str | None:
        """Return the pinned key ("ssh-ed25519 AAAA…") of the server at *address*:*port*, None when there is none."""
        pin = self._journal.read(stock.pins).get((address, port))
        return pin.key if pin else None


# A process that dies while it logs in holds the others up no longer than this.
_TURN_S = 20.0


class JournalCircuit:
    """Credentials that were refused once rest for all processes, until a person wakes them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._holder = uuid.uuid4().hex

    def take_turn(self, credential: str) -> bool:
        """Return whether this process may now try *credential*, and no other one."""
        return self._journal.write(lambda tx: stock.take_turn(tx, credential, self._holder, _TURN_S))

    def give_turn(self, credential: str) -> None:
        """Let other processes try *credential*."""
        self._journal.write(lambda tx: stock.give_turn(tx, credential, self._holder))

    def refused(self, credential: str, node: str) -> None:
        """Let *credential* rest because *node* refused it."""
        self._journal.write(lambda tx: stock.rest_credential(tx, credential, f"refused by {node}"))

    def resting(self, credential: str) -> str | None:
        """Return why *credential* rests, None when it does not."""
        return self._journal.read(stock.resting).get(credential)
