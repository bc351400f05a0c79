"""The journal: append-only events in SQL, and the few rows by which many processes agree who does what.

    events  what happened, hash-chained per run (pure)          fold    what they add up to (pure)
    tables  the SQL tables                                      store   Journal: one writer thread, grouped commits
    runs    runs, reservations          lanes   generations and flags
    claims  who may do a step; leases, fences, barriers
    gates   what people decide                                  outbox  what is still to be sent
    stock   blobs, facts, pins, resting credentials, sealed keys, workers
    lists   runs and events a page at a time, for those who look
    asked   plans and requests of people who use the API

Nobody writes a status: what pages show is folded from events. The rows of `runs`, `claims`, `gates` and `outbox` exist
because a compare-and-set needs a row to compare; each of their moves writes its event in the same commit.
"""

from workflows.journal.events import FLEET, Event, Kind, NewEvent
from workflows.journal.fold import GateState, LaneState, RunState, StepState, done_ids, fold
from workflows.journal.store import Journal, RunSummary, Transaction

__all__ = [
    "FLEET",
    "Event",
    "GateState",
    "Journal",
    "Kind",
    "LaneState",
    "NewEvent",
    "RunState",
    "RunSummary",
    "StepState",
    "Transaction",
    "done_ids",
    "fold",
]
