"""Files that hold secrets: nobody but their owner may read them, or certbridge refuses to use them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from workflows.errors import SettingsError


def check_private(path: Path, status: os.stat_result) -> None:
    """Raise SettingsError unless *path* belongs to this account and nobody else may read or write it."""
    if status.st_uid != os.geteuid():
        raise SettingsError(f"{path} belongs to another account", remedy=f"chown it to this account: {path}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise SettingsError(f"{path} can be read by others (mode {mode})", remedy=f"chmod 0600 {path}")
