"""What tests of this folder need beside their own modules: those of the acceptance tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "acceptance"))
