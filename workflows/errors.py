"""The one tree of errors, sorted by who acts next.

The docstring of a class is its default message; data are attributes; `remedy()` says what a person can do.
`retryable` says whether the engine may try again by itself; `exit_code` is the one of DESIGN.md section 9.
Library errors are translated into these once, at the seam, by `translating`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class CertbridgeError(Exception):
    """Something went wrong."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    default_remedy: ClassVar[str] = ""

    def __init__(self, message: str = "", *, remedy: str = "", **data: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self._remedy = remedy
        self.data = data
        super().__init__(self.message)

    def __str__(self) -> str:
        node = self.data.get("node")
        return f"{node}: {self.message}" if node else self.message

    @property
    def code(self) -> str:
        """The name that journal rows and API problems carry, e.g. "HostKeyChanged"."""
        return type(self).__name__

    def remedy(self) -> str:
        """Return what a person can do about it; never empty for errors that reach a person."""
        return self._remedy or self.default_remedy


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of the input: where it stands ("fleet.yaml:12", "callbridge.crt"), what is wrong, what to do."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


class _WithFindings(CertbridgeError):
    """Several things are wrong."""

    def __init__(self, findings: Sequence[Finding], message: str = "", **data: Any) -> None:
        self.findings = tuple(findings)
        super().__init__(message or "\n".join(str(finding) for finding in self.findings), **data)

    def remedy(self) -> str:
        """Return the remedies of all findings, one a line."""
        return self._remedy or "\n".join(finding.remedy for finding in self.findings)


# ── a person edits the input ─────────────────────────────────────────────────────────────────────────────────────────
class InputError(CertbridgeError):
    """The input is wrong."""

    exit_code = 2


class InventoryError(_WithFindings, InputError):
    """The inventory is wrong."""


class SettingsError(InputError):
    """A setting is wrong."""


# ── a person decides ─────────────────────────────────────────────────────────────────────────────────────────────────
class PlanError(_WithFindings):
    """There is no plan that could be trusted."""


class PlanInput(PlanError):
    """What was asked for does not fit the inventory."""

    exit_code = 2


class NothingToUndo(PlanError):
    """The servers use what they used before the run: there is nothing to undo."""

    exit_code = 0  # what was asked for is so already, as with an empty plan


class PlanStale(InputError):
    """The plan no longer fits the fleet."""

    default_remedy = "Make a new plan with `certbridge plan --survey`."


class GateError(InputError):
    """The gate does not take this decision."""


class FourEyes(GateError):
    """Whoever asked for the run may not approve it."""

    default_remedy = "Ask another person to approve, or set `four_eyes: false` in the inventory for a fleet of one."


class GateDecided(GateError):
    """The gate was decided already."""

    default_remedy = "See `certbridge gates show` for who decided and when."


class AlreadyVoted(GateError):
    """This person has approved already."""

    default_remedy = "Another person has to; `certbridge gates show` says who is missing."


class DigestChanged(GateError):
    """What was approved is not what stands there now."""

    default_remedy = "Look at it again with `certbridge gates show` and approve the new digest."


class Reserved(CertbridgeError):
    """Another run holds these nodes."""

    exit_code = 4
    default_remedy = "Wait for that run to end, or cancel it with `certbridge runs cancel RUN`."


class Stopped(CertbridgeError):
    """A person stopped the run."""

    exit_code = 4


# ── a person may not, or is not known ────────────────────────────────────────────────────────────────────────────────
class NotSignedIn(CertbridgeError):
    """Nobody is signed in."""

    default_remedy = "Sign in, or send a token: `certbridge login URL`."


class NotAllowed(CertbridgeError):
    """You may not do this."""

    default_remedy = "Ask an administrator for the role, or somebody who has it to do it."


class NotThere(InputError):
    """There is no such thing."""


class Clash(InputError):
    """It does not fit what is there already."""


class TooMany(CertbridgeError):
    """Too many attempts."""

    default_remedy = "Wait, then try again."


# ── a server ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class NodeError(CertbridgeError):
    """The server did not do what it was asked."""

    default_remedy = (
        "Read commands and replies with `certbridge runs report RUN --out FILE`, mend the cause, "
        "then `certbridge runs resume RUN`."
    )


class Unreachable(NodeError):
    """The server does not answer."""

    retryable = True
    default_remedy = "Check address, port and network; a run that stopped goes on with `certbridge runs resume RUN`."


class _CredentialRests(NodeError):
    """The credential rests."""

    default_remedy = "Correct the credential, then `certbridge doctor --credential NAME` wakes it."

    def remedy(self) -> str:
        """Return what wakes the credential, by its name where it is known."""
        return super().remedy().replace("--credential NAME", f"--credential {self.data.get('credential') or 'NAME'}")


class LoginRefused(_CredentialRests):
    """The server refused the credential; it rests now and is tried nowhere else."""


class CredentialResting(_CredentialRests):
    """This credential was refused before and rests."""


class CredentialMissing(NodeError):
    """No password or key is known for this credential."""

    default_remedy = "Set CERTBRIDGE_CREDENTIAL_<NAME>=user:password, or write it into credentials.yaml (mode 0600)."


class HostKeyChanged(NodeError):
    """The server's host key is not the pinned one; no password was sent."""

    default_remedy = (
        "Find out why. If the server was replaced on purpose, pin it again with `certbridge trust NODE --replace`."
    )


class HostKeyUnknown(NodeError):
    """No host key is pinned for this server."""

    default_remedy = "Compare and store its fingerprint with `certbridge trust NODE`."


class CommandRejected(NodeError):
    """The server answered FAILURE."""


class UnexpectedReply(NodeError):
    """The server answered something this release does not know."""


class UnexpectedQuestion(NodeError):
    """The server asked a question the plan does not expect; it was not answered."""


class OutcomeUnknown(NodeError):
    """The connection died before the answer came; what the server did is not known."""

    retryable = True
    default_remedy = "The next attempt reads the server first; nothing is repeated blindly."


class NotInPlan(NodeError):
    """This line is not in the plan, so it was not sent."""


class KeyGuarded(NodeError):
    """Private keys are not read from servers unless the plan says so."""


class TransferMismatch(NodeError):
    """What was read back is not what was written."""

    retryable = True


class Drifted(NodeError):
    """The server is no longer as the plan expects."""

    default_remedy = "Make a new plan from a new survey, or set the server back and `certbridge runs resume RUN`."


class NotProved(NodeError):
    """A port does not serve what it should."""


class LeaseLost(NodeError):
    """Another worker took over; this one sends nothing more."""


# ── a CA ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class IssuerError(CertbridgeError):
    """The CA did not sign."""


class CSRRejected(IssuerError):
    """The CA refused the request."""


class CertificateError(_WithFindings, InputError):
    """A certificate or key does not fit."""


class ChainIncomplete(CertificateError):
    """A certificate of the chain is missing."""


class KeyMismatch(CertificateError):
    """The certificate belongs to another key."""


# ── the engine's surroundings ────────────────────────────────────────────────────────────────────────────────────────
class EngineError(CertbridgeError):
    """The engine cannot work."""


class NoWorker(EngineError):
    """No worker answers."""

    default_remedy = "Start `certbridge up`."


class JournalError(EngineError):
    """The journal cannot be read or written."""


class RecordsAway(JournalError):
    """The journal cannot be read or written."""

    default_remedy = "Make room on the disk, or bring the database back; the work then goes on from where it was."


class VaultError(EngineError):
    """A sealed row cannot be opened."""


def words_of(error: BaseException) -> str:
    """Return what logs and the command line of the machine itself tell of *error*, on one line.

    Of ours the sentence, and behind it the first line of the driver, which is in no sentence: over HTTP strangers read
    those, and drivers name hosts and databases.
    """
    if not isinstance(error, CertbridgeError):
        return f"{type(error).__name__}: {_driver(error)}"
    driver = str(error.data.get("driver", ""))
    return f"{error} {driver}" if driver else str(error)


def driver_data(error: BaseException) -> dict[str, str]:
    """Return what goes along with an error of ours that was *error* of a library: its first line, for `words_of`."""
    return {"driver": _driver(error)[:500]}


def _driver(error: BaseException) -> str:
    # SQLAlchemy wraps the driver's words (`orig`) into the statement and a link; people need the words. The driver's
    # further lines repeat the row that was not taken.
    orig = getattr(error, "orig", None)
    said = str(error) if orig is None else str(orig).strip().partition("\n")[0]
    return " ".join(said.split())


@contextlib.contextmanager
def translating(table: Mapping[type[BaseException], type[CertbridgeError]], **data: Any) -> Iterator[None]:
    """Turn library errors into ours: the first class in *table* that matches decides; *data* go along."""
    try:
        yield
    except tuple(table) as error:
        for library_class, ours in table.items():
            if isinstance(error, library_class):
                sentence = (ours.__doc__ or "").strip().splitlines()[0]
                raise ours(f"{sentence} ({type(error).__name__})", **driver_data(error), **data) from error
        raise
