"""One small round of the nemesis (`make chaos` plays large ones): three servers, PostgreSQL, everything struck."""

from __future__ import annotations

import pytest
from keys import make_keys
from nemesis import Scale, play

SMALL = Scale(clusters=1, joined=2, connected=1, services="webadmin,callbridge", strike_s=20.0, limit_s=240.0)


@pytest.mark.timeout(360)
def test_renewal_and_rebuild_outlive_everything_that_strikes_them(tmp_path):
    """Nothing twice, nothing out of order, no run stuck, no secret anywhere, every port on its new certificate."""
    told: list[str] = []
    result = play(7, SMALL, keys=make_keys(tmp_path / "keys.pem", 60), tell=told.append)
    assert result.findings.wrong == [], "\n".join(told)
    assert result.findings.changes > 30
    assert sum(result.strikes.values()) > 5
