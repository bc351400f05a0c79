"""Gates over HTTP: the inbox, what a gate shows, who may decide, CSRs out and certificates in."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.ca import pkcs7_der
from workflows import actions
from workflows.journal import accounts, runs
from workflows.people import Grant, Permission, Role
from workflows.plan import Plan

APPROVALS = """
approvals:
  sign: {stages: [{group: pki}, {group: security, needs: 2}], decide_within: 7d}"""


@pytest.fixture
def gate(seeded) -> str:
    """Give the path of the sign gate of seoul, asked for by olga."""
    return f"/api/runs/{seeded.waiting_run('seoul')}/gates/seoul/sign"


def staged(seeded) -> str:
    """Return the path of a gate that pki and then two of security approve."""
    text = seeded.world.fleet.read_text()
    seeded.world.fleet.write_text(text.replace("fleet: test", f"fleet: test{APPROVALS}"))
    for name, group in (("pia", "pki"), ("sam", "security"), ("sue", "security")):
        seeded.person(name, Role.APPROVER, groups=(group,))
    return f"/api/runs/{seeded.waiting_run('seoul')}/gates/seoul/sign"


def approve(client: Any, path: str, **changes: Any) -> Any:
    """Approve what the gate shows now."""
    digest = client.get(path).json()["digest"]
    return client.post(f"{path}/approve", json={"digest": digest, **changes})


def files(*named: tuple[str, bytes]) -> dict[str, Any]:
    """Return a delivery of *named* files."""
    return {"files": [("files", one) for one in named]}


def test_a_gate_shows_all_that_is_decided_on(seeded, gate):
    """Digest, lines per server in order, interruptions, decoded CSRs, stages, clocks, and whether one may decide."""
    shown = seeded.signed_in("anna").get(gate).json()
    assert re.fullmatch("[0-9a-f]{64}", shown["digest"])
    assert [one["node"] for one in shown["nodes"]] == ["cms1", "cms2"]
    lines = [line["text"] for step in shown["nodes"][0]["steps"] for line in step["lines"]]
    assert "callbridge certs callbridge-1.key callbridge-1.crt callbridge-1-bundle.crt" in lines
    orders = sorted(step["order"] for node in shown["nodes"] for step in node["steps"])
    assert orders == list(range(1, len(orders) + 1))
    assert {one["service"] for one in shown["summary"]["outage"]} >= {"callbridge", "webadmin"}
    (first, _) = shown["requests"]
    assert (first["subject"], first["names"]) == ("CN=cms1.example.com", ["cms1.example.com", "join.example.com"])
    assert first["signature"].endswith("-sha256")
    assert shown["missing"] == ["seoul/cms1/callbridge", "seoul/cms2/callbridge"]
    assert [(one["group"], one["needs"], one["missing"]) for one in shown["stages"]] == [("", 1, 1)]
    assert (shown["difference"]["lane"], shown["difference"]["run"]) == ("seoul", "")
    opened, expires = (datetime.fromisoformat(shown[name]) for name in ("opened_at", "expires_at"))
    assert abs(expires - opened - timedelta(days=14)) < timedelta(seconds=1)
    assert (shown["may"]["approve"], shown["may"]["reject"], shown["requested_by"]) == (True, True, "olga")


def test_the_inbox_of_mine_holds_what_that_person_can_approve(seeded):
    """The second stage's people see the gate once the first is full."""
    path = staged(seeded)
    client = {name: seeded.signed_in(name) for name in ("pia", "sam", "olga", "adam")}

    def mine() -> dict[str, int]:
        return {name: one.get("/api/gates?mine=true").json()["total"] for name, one in client.items()}

    assert mine() == {"pia": 1, "sam": 0, "olga": 0, "adam": 0}
    answer = approve(client["pia"], path, reason="names are right")
    assert (answer.status_code, answer.json()["status"], answer.json()["current_stage"]) == (200, "open", 1)
    assert mine() == {"pia": 0, "sam": 1, "olga": 0, "adam": 0}
    (listed,) = client["olga"].get("/api/gates").json()["items"]
    assert [vote["name"] for vote in listed["stages"][0]["votes"]] == ["pia"]
    again = approve(client["pia"], path)
    assert (again.status_code, again.json()["code"], again.json()["who"]) == (409, "AlreadyVoted", "pia")
    assert approve(client["sam"], path).json()["status"] == "open"
    assert approve(seeded.signed_in("sue"), path).json()["status"] == "approved"


@pytest.mark.parametrize("way", ["session", "token"])
@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("olga", (Role.OPERATOR, Role.APPROVER)),
        ("adam", (Role.ADMIN, Role.APPROVER)),
        ("viola", (Role.VIEWER,)),
        ("bus", (Grant(Role.APPROVER, "busan"), Grant(Role.VIEWER))),
    ],
)
def test_these_may_not_approve_by_session_or_token(seeded, gate, name, roles, way):
    """Who asked, an administrator, a viewer, an approver of another cluster: the account counts, not the way in."""
    grants = [one if isinstance(one, Grant) else Grant(one) for one in roles]
    seeded.journal.write(lambda tx: accounts.set_grants(tx, seeded.account(name), grants, by="test"))
    client = seeded.signed_in(name) if way == "session" else seeded.with_token(name)
    answer = approve(client, gate)
    assert (answer.status_code, seeded.signed_in("anna").get(gate).json()["status"]) == (403, "open")
    assert answer.json()["code"] == ("FourEyes" if name == "olga" else "NotAllowed")
    assert not client.get(gate).json()["may"]["approve"]


def test_who_made_the_plan_may_not_approve_the_run_of_another(seeded):
    """The author of the plan is barred beside who started it."""
    seeded.person("pam", Role.APPROVER)
    first = seeded.waiting_run("seoul")
    plan = Plan.from_json(seeded.journal.plan(first))
    actions.cancel(seeded.journal, first, by="olga")
    seeded.journal.write(lambda tx: runs.release(tx, first))
    actions.start_run(seeded.journal, plan, by="olga", run="second", planned_by="pam")
    seeded.world.advance("second")
    answer = approve(seeded.signed_in("pam"), "/api/runs/second/gates/seoul/sign")
    assert (answer.status_code, answer.json()["detail"]) == (403, "pam made its plan and may not approve it.")


def test_a_token_that_may_only_read_does_not_approve(seeded, gate):
    """Its account could; the token was not made for it."""
    assert approve(seeded.with_token("anna", Permission.READ), gate).status_code == 403


@pytest.mark.parametrize("loses", ["role", "account"])
def test_who_lost_the_right_between_page_and_click_is_refused(seeded, gate, loses):
    """Roles are those of the click, not of the page."""
    client, account = seeded.signed_in("anna"), seeded.account("anna")
    digest = client.get(gate).json()["digest"]
    if loses == "role":
        seeded.journal.write(lambda tx: accounts.set_grants(tx, account, [Grant(Role.VIEWER)], by="adam"))
    else:
        seeded.journal.write(lambda tx: accounts.set_active(tx, account, active=False, by="adam"))
    answer = client.post(f"{gate}/approve", json={"digest": digest})
    assert answer.status_code == (403 if loses == "role" else 401)


def test_another_digest_than_what_stands_there_is_refused(seeded, gate):
    """What the page showed must be what is approved; without a digest nothing is."""
    client = seeded.signed_in("anna")
    changed = client.post(f"{gate}/approve", json={"digest": "0" * 64})
    assert (changed.status_code, changed.json()["code"]) == (409, "DigestChanged")
    assert client.post(f"{gate}/approve", json={}).status_code == 422


def test_a_second_decision_is_told_who_and_when(seeded, gate):
    """Also a rejection after an approval."""
    seeded.person("eve", Role.APPROVER)
    decided = approve(seeded.signed_in("anna"), gate).json()
    eve = seeded.signed_in("eve")
    late = eve.post(f"{gate}/reject", json={"digest": decided["digest"], "reason": "too late"})
    assert (late.status_code, late.json()["code"], late.json()["who"]) == (409, "GateDecided", "anna")
    when = (datetime.fromisoformat(one) for one in (late.json()["when"], decided["decided_at"]))
    assert abs(next(when) - next(when)) < timedelta(milliseconds=1)
    page = eve.post(f"{gate.removeprefix('/api')}/reject", data={"digest": decided["digest"], "reason": "late"})
    at = datetime.fromisoformat(late.json()["when"])
    assert (page.status_code, "Decided by <b>anna</b>" in page.text) == (409, True)
    assert f"{at.day} {at:%b %Y}, {at:%H:%M}" in page.text


def test_a_rejection_needs_a_reason_and_may_come_from_who_asked(seeded, gate):
    """A viewer may not; olga may stop what she asked for."""
    olga = seeded.signed_in("olga")
    digest = olga.get(gate).json()["digest"]
    assert olga.post(f"{gate}/reject", json={"digest": digest, "reason": "  "}).status_code == 422
    said = {"digest": digest, "reason": "wrong names"}
    assert seeded.signed_in("viola").post(f"{gate}/reject", json=said).status_code == 403
    answer = olga.post(f"{gate}/reject", json=said)
    assert (answer.status_code, answer.json()["status"], answer.json()["decided_by"]) == (200, "rejected", "olga")


@pytest.mark.parametrize("reason", ["a\0b", "\ud800", "x" * 3000])
def test_a_reason_that_cannot_be_kept_is_refused(seeded, gate, reason):
    """It is a fault of the request, never of the server."""
    client = seeded.signed_in("anna")
    digest = client.get(gate).json()["digest"]
    text = f'{{"digest": "{digest}", "reason": "{reason.encode("unicode_escape").decode()}"}}'
    text = text.replace("\\x00", "\\u0000")
    answer = client.post(f"{gate}/reject", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_a_time_when_the_approval_is_void_is_refused(seeded, gate):
    """And one within it is kept."""
    client = seeded.signed_in("anna")
    late = approve(client, gate, not_before="2100-01-01T00:00:00Z")
    assert (late.status_code, late.json()["code"]) == (422, "InputError")
    soon = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert datetime.fromisoformat(approve(client, gate, not_before=soon).json()["not_before"]) == (
        datetime.fromisoformat(soon)
    )


def test_what_lies_outside_of_the_grant_is_not_there(seeded, gate):
    """Neither in lists nor by name."""
    run = gate.split("/")[3]
    client = seeded.signed_in("bus")
    assert client.get("/api/gates").json()["items"] == []
    places = (gate, f"/api/runs/{run}/gates", f"/api/runs/{run}/csr", f"/api/runs/{run}/deliveries")
    assert [client.get(place).status_code for place in places] == [404] * 4
    assert seeded.signed_in("anna").get(gate.replace("sign", "stay")).status_code == 404


# ── CSRs out, certificates in ────────────────────────────────────────────────────────────────────────────────────────
def test_csrs_come_after_the_approval_and_not_before(seeded, gate):
    """With the request sheet, as an archive."""
    run = gate.split("/")[3]
    client = seeded.signed_in("olga")
    assert client.get(f"/api/runs/{run}/csr").status_code == 409
    approve(seeded.signed_in("anna"), gate)
    answer = client.get(f"/api/runs/{run}/csr")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == [
            "request-sheet.csv",
            "request-sheet.txt",
            "seoul_cms1_callbridge.csr",
            "seoul_cms2_callbridge.csr",
        ]
        assert archive.read("seoul_cms1_callbridge.csr").startswith(b"-----BEGIN CERTIFICATE REQUEST-----")


def test_csrs_are_those_of_ones_own_clusters_and_of_the_lane_that_was_asked_for(seeded):
    """Both gates are approved; who sees busan alone gets no request of seoul."""
    run = seeded.waiting_run("seoul", "busan")
    bus, viola = seeded.signed_in("bus"), seeded.signed_in("viola")
    approve(seeded.signed_in("anna"), f"/api/runs/{run}/gates/seoul/sign")
    assert bus.get(f"/api/runs/{run}/csr").status_code == 409  # nothing of theirs is approved
    approve(seeded.signed_in("anna"), f"/api/runs/{run}/gates/busan/sign")

    def given(client: Any, lane: str = "") -> list[str]:
        answer = client.get(f"/api/runs/{run}/csr", params={"lane": lane})
        if answer.status_code != 200:
            return [str(answer.status_code)]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            sheet = archive.read("request-sheet.csv").decode()
            names = [one for one in archive.namelist() if one.endswith(".csr")]
        assert sheet.count("callbridge") >= len(names)
        assert ("seoul/" in sheet) == any("seoul" in one for one in names)
        return names

    busan = ["busan_cms3_callbridge.csr"]
    seoul = ["seoul_cms1_callbridge.csr", "seoul_cms2_callbridge.csr"]
    assert (given(bus), given(bus, "busan"), given(bus, "seoul")) == (busan, busan, ["404"])
    assert (sorted(given(viola)), given(viola, "seoul")) == (busan + seoul, seoul)


def signed(seeded, gate) -> tuple[str, list[bytes]]:
    """Approve, and return the run and its certificates."""
    run = gate.split("/")[3]
    approve(seeded.signed_in("anna"), gate)
    return run, [one.read_bytes() for one in sorted(seeded.world.sign(run, pkcs7_der).iterdir())]


def test_certificates_are_taken_in_any_format_and_told_file_by_file(seeded, gate):
    """A part first, in an archive with a path in its names; then the rest. Who brought what is told afterwards."""
    run, (first, second) = signed(seeded, gate)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../etc/one.p7b", first)
    client = seeded.signed_in("olga")
    answer = client.post(f"/api/runs/{run}/deliveries", **files(("C:\\x\\mail.zip", packed.getvalue())))
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert [(one["name"], one["wishes"]) for one in said["files"]] == [("mail.zip/one.p7b", said["taken"])]
    assert (len(said["taken"]), len(said["missing"]), said["complete"]) == (1, 1, [])
    rest = client.post(f"/api/runs/{run}/deliveries", **files(("two", second))).json()
    assert rest["complete"] == ["seoul"]
    told = client.get(f"/api/runs/{run}/deliveries").json()["items"]
    assert [(one["by"], one["lane"], list(one["certificates"])) for one in told] == [
        ("olga", "seoul", said["taken"]),
        ("olga", "seoul", rest["taken"]),
    ]


def test_one_fault_and_nothing_is_taken(seeded, gate):
    """A check tells each file apart; the delivery itself is a problem with the same findings."""
    run, (first, _) = signed(seeded, gate)
    client = seeded.signed_in("olga")
    sent = files(("one.p7b", first), ("other.crt", b"no certificate"))
    seen = client.post(f"/api/runs/{run}/deliveries?check=true", **sent).json()
    by_name = {one["name"]: one for one in seen["files"]}
    assert by_name["one.p7b"]["wishes"]
    assert by_name["one.p7b"]["faults"] == []
    assert by_name["other.crt"]["faults"]
    refused = client.post(f"/api/runs/{run}/deliveries", **sent)
    assert (refused.status_code, refused.json()["code"]) == (422, "CertificateError")
    assert [one["where"] for one in refused.json()["findings"]] == ["other.crt"]
    assert client.get(f"/api/runs/{run}/deliveries").json()["items"] == []


def test_whoever_delivered_the_certificates_may_not_approve_go(seeded, gate):
    """The last editor; another approver may."""
    run, certificates = signed(seeded, gate)
    grants = [Grant(Role.OPERATOR), Grant(Role.APPROVER)]
    seeded.person("dan", *grants)
    dan = seeded.with_token("dan")
    named = [(f"{number}.p7b", data) for number, data in enumerate(certificates)]
    assert dan.post(f"/api/runs/{run}/deliveries", **files(*named)).json()["complete"] == ["seoul"]
    seeded.world.advance(run)
    go = gate.replace("sign", "go")
    answer = approve(dan, go)
    assert (answer.status_code, answer.json()["code"]) == (403, "FourEyes")
    assert "delivered its certificates" in answer.json()["detail"]
    shown = seeded.signed_in("anna").get(go).json()
    assert {one["delivered_by"] for one in shown["certificates"]} == {"dan"}
    assert approve(seeded.signed_in("anna"), go).json()["status"] == "approved"


def bomb() -> bytes:
    """Return an archive of 60 kB that unpacks to 60 MB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.crt", bytes(60_000_000))
    return packed.getvalue()


def many() -> bytes:
    """Return an archive of too many files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(1_100):
            archive.writestr(f"{number}.crt", b"x")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("bomb.zip", bomb, "more than 20 MB"),
        ("many.zip", many, "more than 1000 files"),
        ("big.crt", lambda: bytes(21_500_000), "more than 20 MB"),
        ("torn.zip", lambda: b"PK\x03\x04 no", "cannot be unpacked"),
    ],
)
def test_a_delivery_that_is_too_much_is_refused(seeded, gate, name, data, what):
    """Zip bombs, masses of files, large files, broken archives: a clear error, and nothing is taken."""
    run, _ = signed(seeded, gate)
    answer = seeded.signed_in("olga").post(f"/api/runs/{run}/deliveries", **files((name, data())))
    assert (answer.status_code, answer.json()["code"]) == (422, "InputError")
    assert what in answer.json()["detail"]


def test_a_delivery_needs_files_and_an_operator_of_every_lane(seeded):
    """One of seoul alone delivers for seoul alone."""
    run = seeded.waiting_run()
    client = seeded.signed_in("sol")
    path = f"/api/runs/{run}/deliveries"
    assert client.post(path, json={}).status_code == 422
    assert client.post(path, **files(("a.crt", b"x"))).status_code == 403
    assert client.post(f"{path}?lane=busan", **files(("a.crt", b"x"))).status_code == 404
    waits = client.post(f"{path}?lane=seoul", **files(("a.crt", b"x")))
    assert (waits.status_code, waits.json()["code"]) == (409, "GateError")
    assert seeded.signed_in("anna").post(path, **files(("a.crt", b"x"))).status_code == 403
