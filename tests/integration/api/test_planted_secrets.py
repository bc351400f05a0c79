"""A secret in every place that holds one, and every GET of the application as everybody: it is found nowhere."""

from __future__ import annotations

from functools import partial

from fastapi.routing import APIRoute, iter_route_contexts

from api.app import create_app
from tests.integration.api.seeded import PEOPLE
from workflows.journal import accounts, entries, lanes, runs, stock, webhooks
from workflows.journal.vault import Vault
from workflows.people import Role
from workflows.settings import Settings, prepare_state

PLANTED = "tulip-9f2c-planted"
IN_ADDRESS = "heather-4c1b-planted"
"""What opens the receiver of a webhook: for those who manage webhooks, and nobody else."""
MANAGERS = frozenset({"adam", "root"})
ENDLESS = frozenset({"/api/events"})


def planted(seeded, monkeypatch):
    """Put the secret everywhere; return what else must not be found: the keys that open things."""
    monkeypatch.setenv("CERTBRIDGE_CREDENTIAL_CMS", PLANTED)
    settings = Settings.load(
        {},
        state=seeded.settings.state,
        fleet=seeded.settings.fleet,
        database_url=f"postgresql://certbridge:{PLANTED}@127.0.0.1:1/none",
        broker_url=f"redis://:{PLANTED}@127.0.0.1:1/0",
        oidc_issuer="https://127.0.0.1:1/",
        oidc_client_id="certbridge",
        oidc_client_secret=PLANTED,
        public_url="https://certbridge.test",
    )
    prepare_state(settings)
    for name in ("credentials.yaml", "flower-password"):
        file = settings.state / name
        file.write_text(f"cms: {{user: admin, password: {PLANTED}}}\n" if name.endswith("yaml") else PLANTED)
        file.chmod(0o600)
    vault = Vault(settings.vault_dir)
    seeded.journal.write(lambda tx: stock.seal(tx, "run/a.key", vault.seal("run/a.key", PLANTED.encode())))
    account = seeded.account("viola")
    seeded.journal.write(lambda tx: accounts.set_password(tx, account, f"$argon2id${PLANTED}", by="test"))
    hook, sealed = "hook", vault.seal(webhooks.secret_row("hook"), PLANTED.encode())
    url = f"https://receiver.test/{IN_ADDRESS}?key={IN_ADDRESS}"
    seeded.journal.write(lambda tx: webhooks.add(tx, webhook=hook, url=url, kinds=(), ciphertext=sealed, by="adam"))
    seeded.journal.write(lambda tx: webhooks.test(tx, hook, by="adam"))
    ((_, delivery),) = seeded.journal.read(webhooks.due)
    seeded.journal.write(lambda tx: webhooks.tried(tx, delivery, status=404, said=f"no {IN_ADDRESS}"))
    secret = seeded.journal.write(lambda tx: entries.sign_in(tx, account, how="test"))
    token = seeded.token("viola")
    invitation = seeded.journal.write(lambda tx: accounts.invite(tx, account, by="test"))
    keys = [secret, token, invitation]
    seeded.app = create_app(settings, seeded.journal)
    return [PLANTED, *keys, *(accounts.digest(key) for key in keys), (settings.vault_dir / "key").read_bytes().hex()]


def ids_of(seeded):
    """Return what stands in paths: a survey that is over, a run that waits and is then ended, a plan, and so on."""
    survey = seeded.done_survey()
    run = seeded.waiting_run("seoul")
    plan = seeded.signed_in("olga").post("/api/plans", json={"clusters": ["busan"]}).json()["digest"]
    seeded.journal.write(partial(lanes.cancel_lane, run=run, lane="seoul", by="olga", reason="over"))
    seeded.journal.write(lambda tx: runs.close_run(tx, run, "cancelled"))
    return {
        "run": run,
        "survey": survey,
        "digest": plan,
        "node": "cms1",
        "cluster": "seoul",
        "step": "seoul/cms1/prepare",
        "lane": "seoul",
        "name": "sign",
        "account": seeded.account("viola"),
        "webhook": "hook",
    }


def paths_of(seeded, ids):
    """Return every path of the application that can be read."""
    found = []
    for one in iter_route_contexts(seeded.app.routes):
        if isinstance(one.route, APIRoute) and "GET" in one.methods and one.path_format not in ENDLESS:
            names = [part.name for part in one.route.dependant.path_params]
            mine = {**ids, "run": ids["survey"]} if one.path_format.startswith("/api/surveys/") else ids
            found.append(one.path_format.format(**{name: mine.get(name, "x") for name in names}))
    return [*found, "/openapi.json"]


def test_no_secret_is_in_any_answer_to_anybody(seeded, monkeypatch):
    ids = ids_of(seeded)
    hidden = planted(seeded, monkeypatch)
    paths = paths_of(seeded, ids)
    assert len(paths) > 40
    statuses: dict[str, set[int]] = {}
    everybody = {**PEOPLE, "root": (Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.ADMIN)}
    seeded.person("root", *everybody["root"])
    clients = {name: seeded.signed_in(name) for name in everybody} | {"nobody": seeded.client()}
    for name, client in clients.items():
        for path in paths:
            answer = client.get(path)
            statuses.setdefault(path, set()).add(answer.status_code)
            mine = hidden if name in MANAGERS else [*hidden, IN_ADDRESS]
            seen = [secret for secret in mine if secret in answer.text or secret in str(answer.headers)]
            assert seen == [], f"{path} as {name}"
    # There is nothing to go back from, nothing approved, and no run of a database here.
    unlike = ("/rollback/preview", "/csr", "/runbook")
    silent = [path for path, found in statuses.items() if 200 not in found and path.startswith("/api/")]
    assert silent == [path for path in silent if "/x" in path or path.endswith(unlike)]
