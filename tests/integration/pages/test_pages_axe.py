"""axe-core finds no serious fault on any page, in the light and in the dark (issue 5, show 7)."""

from __future__ import annotations

import pytest

from tests.conftest import AXE
from tests.pages_served import PAGES

pytestmark = [pytest.mark.needs_axe, pytest.mark.timeout(180)]


KOREAN = ("run", "step", "gate-database", "plan", "problem")
"""Pages on which English stands beside Korean."""


@pytest.mark.parametrize(("name", "language"), [*((name, "en") for name in PAGES), *((name, "ko") for name in KOREAN)])
def test_nothing_keeps_people_out(opened, name, language):
    page = opened(name, locale=language)
    # By the debugger, past the policy of the page: what is looked at stays as people get it.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        faults = [
            (one["id"], one["help"], [node["target"] for node in one["nodes"]][:3])
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
        assert (scheme, faults) == (scheme, [])
        assert len(found["passes"]) > 5
