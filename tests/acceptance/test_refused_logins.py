"""F28: a wrong password is tried once in the whole fleet; then that credential rests until a person corrected it."""

from __future__ import annotations

import json

from acceptance_engine import Shape
from renewing import FAILED, must, say, wake_credential

ENGINE = Shape(
    clusters=2, nodes=3, key_pool="100", fleet_workers=2, simulator=("--services=webadmin",), settings={"idle_s": 0.5}
)


def test_f28_wrong_password_is_tried_once_and_rests_until_doctor_wakes_it(engine):
    """Six servers, two workers, one attempt: the others say that the credential rests; `doctor` wakes it."""
    credentials = engine.state / "credentials.yaml"
    credentials.write_text("cms: {username: admin, password: last-year}\n")
    said = say(engine, "survey", "-o", "json")
    assert (said.code, json.loads(said.out)["nodes"]) == (FAILED, [])
    assert ("refused user 'admin'" in said.err, "rests" in said.err) == (True, True)
    assert "certbridge doctor --credential cms" in said.err
    assert [one["text"] for one in engine.log() if one["kind"].startswith("login")] == ["admin"]
    assert say(engine, "survey").code == FAILED
    assert len([one for one in engine.log() if one["kind"].startswith("login")]) == 1
    assert "last-year" not in said.err + said.out
    wake_credential(engine)
    must(engine, "survey")
    assert len(engine.log(kind="login-refused")) == 1
