"""What each action of a plan does on a server, one module an idea; `carry_out` finds the function by the action's name.

Every function observes before it acts and confirms after it (DESIGN.md section 5), so a step that was cut off anywhere
may simply run again. It returns what the journal keeps of the step, or raises one of our errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from workers.context import StepContext
from workers.steps.apply import apply, close, swap, trust
from workers.steps.database_agree import database_agree, database_dissolved
from workers.steps.database_make import (
    database_backup,
    database_ca,
    database_deliver,
    database_prepare,
    database_recheck,
    database_sign,
)
from workers.steps.database_move import (
    database_connect,
    database_initialize,
    database_join,
    database_remove,
    database_upgrade_schema,
)
from workers.steps.deliver import deliver
from workers.steps.prepare import prepare
from workers.steps.prove import prove
from workers.steps.recheck import recheck
from workers.steps.request import request
from workers.steps.restore import restore
from workers.steps.survey import survey
from workers.steps.trust_host_key import scan_host_key

Handler = Callable[[StepContext], Awaitable[dict[str, Any]]]

HANDLERS: Mapping[str, Handler] = {
    "survey": survey,
    "scan_host_key": scan_host_key,
    "prepare": prepare,
    "request": request,
    "deliver": deliver,
    "recheck": recheck,
    "trust": trust,
    "swap": swap,
    "apply": apply,
    "prove": prove,
    "close": close,
    "restore": restore,
    "database_prepare": database_prepare,
    "database_ca": database_ca,
    "database_sign": database_sign,
    "database_deliver": database_deliver,
    "database_recheck": database_recheck,
    "database_backup": database_backup,
    "database_remove": database_remove,
    "database_initialize": database_initialize,
    "database_join": database_join,
    "database_connect": database_connect,
    "database_upgrade_schema": database_upgrade_schema,
    "database_agree": database_agree,
    "database_dissolved": database_dissolved,
}
