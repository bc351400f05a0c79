"""The services table, asked as a plan asks it, with the status samples of real servers."""

from __future__ import annotations

import mmp_transcripts
import pytest

from workflows.errors import InputError
from workflows.mmp.commands import command_of, is_reading_line
from workflows.mmp.conversation import Reply
from workflows.mmp.services import (
    SERVICES,
    TRUST_STORES,
    Listening,
    Probe,
    ServiceSettings,
    Takes,
    process_apply,
    service,
    services_of,
    trust_stores_of,
)

OLD, NEW = (2, 9), (3, 9)


def status(name):
    return mmp_transcripts.load(name).parsed()


def test_releases_have_their_services():
    """S10: no XMPP and no load balancer in 3.x, webbridge3 in place of webbridge, scheduler from 3.3."""
    names = {release: {entry.name for entry in services_of(release)} for release in (OLD, (3, 0), (3, 3))}

    assert names[OLD] == {"webadmin", "callbridge", "webbridge", "xmpp", "turn", "loadbalancer", "recorder", "streamer"}
    assert names[(3, 0)] == {
        "webadmin",
        "callbridge",
        "webbridge3.https",
        "webbridge3.c2w",
        "turn",
        "recorder",
        "streamer",
    }
    assert names[(3, 3)] == names[(3, 0)] | {"scheduler.https", "scheduler.c2w"}


@pytest.mark.parametrize("release", [OLD, (3, 0), (3, 3), NEW])
def test_names_are_unique_within_a_release(release):
    """A name in the inventory means one service."""
    names = [entry.name for entry in services_of(release)]

    assert len(names) == len(set(names))


def test_a_service_the_release_lacks_is_named_with_the_release():
    """The person who edits the inventory learns what there is instead."""
    with pytest.raises(InputError, match=r"CMS 3\.9 has no service 'xmpp'; xmpp is there in release 2\.9") as caught:
        service("xmpp", NEW)

    assert "webbridge3.https" in caught.value.remedy()
    with pytest.raises(InputError, match="'smtp'"):
        service("smtp", NEW)
    with pytest.raises(InputError, match=r"3\.3 and later"):
        service("scheduler.c2w", OLD)


@pytest.mark.parametrize(
    ("name", "release", "lines"),
    [
        ("webadmin", NEW, ("webadmin disable", "webadmin certs n.key n.crt ca.crt", "webadmin enable")),
        ("callbridge", NEW, ("callbridge certs n.key n.crt ca.crt", "callbridge restart")),
        ("webbridge", OLD, ("webbridge disable", "webbridge certs n.key n.crt ca.crt", "webbridge enable")),
        ("webbridge3.https", NEW, ("webbridge3 disable", "webbridge3 https certs n.key n.crt", "webbridge3 enable")),
        ("webbridge3.c2w", NEW, ("webbridge3 disable", "webbridge3 c2w certs n.key n.crt", "webbridge3 enable")),
        ("xmpp", OLD, ("xmpp disable", "xmpp certs n.key n.crt ca.crt", "xmpp enable")),
        ("turn", OLD, ("turn disable", "turn certs n.key n.crt ca.crt", "turn enable")),
        ("turn", NEW, ("turn disable", "turn certs n.key n.crt", "turn enable")),
        ("recorder", NEW, ("recorder disable", "recorder sip certs n.key n.crt ca.crt", "recorder enable")),
        ("streamer", OLD, ("streamer disable", "streamer certs n.key n.crt ca.crt", "streamer enable")),
        ("scheduler.https", NEW, ("scheduler disable", "scheduler https certs n.key n.crt", "scheduler enable")),
    ],
)
def test_services_are_applied_as_the_base_document_says(name, release, lines):
    """S7: disable / certs / enable, or certs / restart."""
    entry = service(name, release)
    bundle = "ca.crt" if entry.wants_bundle else ""

    assert entry.apply_lines(enabled=True, key="n.key", certificate="n.crt", bundle=bundle) == lines


def test_a_load_balancer_is_applied_by_its_tag():
    """Its third file says whom it trusts."""
    entry = service("loadbalancer", OLD)

    lines = entry.apply_lines(enabled=True, key="n.key", certificate="n.crt", bundle="trunk.crt", tag="edge1")
    expected = (
        "loadbalancer disable edge1",
        "loadbalancer auth edge1 n.key n.crt trunk.crt",
        "loadbalancer enable edge1",
    )
    assert lines == expected


@pytest.mark.parametrize("name", ["webadmin", "callbridge", "turn"])
def test_a_service_that_is_off_stays_off(name):
    """It gets its certs line only."""
    lines = service(name, OLD).apply_lines(enabled=False, key="n.key", certificate="n.crt", bundle="ca.crt")

    assert lines == (f"{name} certs n.key n.crt ca.crt",)


def test_a_full_chain_service_has_no_place_for_a_bundle():
    """A bundle there would be a misunderstanding that the server might swallow."""
    with pytest.raises(InputError, match="full chain"):
        service("webbridge3.https", NEW).certs_line("n.key", "n.crt", "ca.crt")


def test_services_of_one_process_are_interrupted_once():
    """Both halves of a web bridge go together."""
    https, c2w = service("webbridge3.https", NEW), service("webbridge3.c2w", NEW)
    lines = (https.certs_line("n.key", "n.crt"), c2w.certs_line("m.key", "m.crt"))

    expected = ("webbridge3 disable", *lines, "webbridge3 enable")
    assert process_apply("webbridge3", enabled=True, certs_lines=lines) == expected
    assert process_apply("callbridge", enabled=True, certs_lines=()) == ()


@pytest.mark.parametrize("entry", SERVICES, ids=lambda entry: f"{entry.name}-{entry.first}")
def test_every_line_of_the_table_is_a_known_command(entry):
    """The session and the plan find question, time limit and verdict by the line."""
    tag = "t" if entry.process == "loadbalancer" else ""
    bundle = "ca.crt" if entry.takes is not Takes.FULL_CHAIN else ""
    lines = entry.apply_lines(enabled=True, key="n.key", certificate="n.crt", bundle=bundle, tag=tag)

    assert [command_of(line).changes for line in lines] == [True] * len(lines)
    assert is_reading_line(entry.status_line)


@pytest.mark.parametrize("entry", SERVICES, ids=lambda entry: f"{entry.name}-{entry.first}")
def test_every_service_says_what_it_interrupts_and_for_how_long(entry):
    """The gate shows both."""
    assert entry.interrupts
    assert 0 < entry.outage_s[0] <= entry.outage_s[1]
    assert entry.eku <= {"server", "client"}
    assert "server" in entry.eku


@pytest.mark.parametrize(
    ("sample", "name", "release", "expected"),
    [
        (
            "webadmin/status-without-bundle",
            "webadmin",
            NEW,
            (True, "core.key", "cmscore-fullchain.cer", None, [("a", 443)]),
        ),
        (
            "webadmin/status-with-bundle",
            "webadmin",
            NEW,
            (True, "webadmin.key", "webadmin.crt", "ca-bundle.crt", [("a", 8443)]),
        ),
        (
            "callbridge/status-3.9-with-bundle",
            "callbridge",
            NEW,
            (True, "cms.key", "cms.cer", "root.cer", [("a", 5061)]),
        ),
        (
            "webbridge3/status",
            "webbridge3.https",
            NEW,
            (True, "edge.key", "cmsedge-fullchain.cer", None, [("a", 445), ("b", 445)]),
        ),
        ("webbridge3/status", "webbridge3.c2w", NEW, (True, "edge.key", "cmsedge-fullchain.cer", None, [("a", 6000)])),
        ("turn/status", "turn", NEW, (True, "edge.key", "cmsedge-fullchain.cer", None, [("a", 447), ("b", 447)])),
        ("streamer/status-3.x", "streamer", NEW, (False, "tac.key", "tac.cer", None, [("a", 7001)])),
        ("streamer/status-2.x", "streamer", OLD, (False, "streamer.key", "streamer.crt", None, [("a", 8443)])),
        ("recorder/status-3.12", "recorder", NEW, (True, "cms.key", "cms.cer", "cms.cer", [])),
        ("webbridge/status", "webbridge", OLD, (True, "webbridge.key", "webbridge.crt", "ca-bundle.crt", [("a", 443)])),
        ("xmpp/status", "xmpp", OLD, (True, "xmpp.key", "xmpp.crt", "ca-bundle.crt", [("a", 5222)])),
        (
            "scheduler/status",
            "scheduler.https",
            NEW,
            (True, "scheduler.key", "scheduler-fullchain.crt", None, [("a", 9443)]),
        ),
        ("scheduler/status", "scheduler.c2w", NEW, (True, "scheduler.key", "scheduler-fullchain.crt", None, [])),
    ],
)
def test_settings_are_read_from_status_samples(sample, name, release, expected):
    """Files, whether it is on, and where it listens."""
    found = service(name, release).current(status(sample))

    listening = [(place.interface, place.port) for place in found.listening]
    assert (found.enabled, found.key, found.certificate, found.bundle, listening) == expected


def test_each_load_balancer_is_read_by_its_tag():
    """Two tags, two settings; without a tag the first."""
    entry = service("loadbalancer", OLD)
    both = status("loadbalancer-list/two-tags")

    assert [entry.current(both, tag=tag).key for tag in ("edge1", "edge2", "")] == [
        "edge1.key",
        "edge2.key",
        "edge1.key",
    ]
    assert entry.current(both, tag="edge2") == ServiceSettings(
        enabled=False,
        key="edge2.key",
        certificate="edge2.crt",
        bundle=None,
        listening=(Listening(interface="b", port=3999),),
        tag="edge2",
    )


def test_a_call_bridge_is_on_when_it_has_a_certificate():
    """It has no Enabled row."""
    rows = mmp_transcripts.load("callbridge/status-3.8").reply.replace("cmscore-fullchain.cer", "none")
    entry = service("callbridge", NEW)

    assert entry.current(command_of("callbridge").parse(Reply(command="callbridge", text=rows))).enabled is False


@pytest.mark.parametrize(
    ("sample", "name", "release", "lines"),
    [
        (
            "webadmin/status-with-bundle",
            "webadmin",
            NEW,
            ("webadmin disable", "webadmin certs webadmin.key webadmin.crt ca-bundle.crt", "webadmin enable"),
        ),
        ("streamer/status-3.x", "streamer", NEW, ("streamer sip certs tac.key tac.cer",)),
        (
            "callbridge/status-3.8",
            "callbridge",
            NEW,
            ("callbridge certs core.key cmscore-fullchain.cer", "callbridge restart"),
        ),
        ("turn/status", "turn", NEW, ("turn disable", "turn certs edge.key cmsedge-fullchain.cer", "turn enable")),
    ],
)
def test_the_way_back_names_the_old_files(sample, name, release, lines):
    """Off stays off, on is put back on."""
    entry = service(name, release)

    assert entry.lines_back(entry.current(status(sample))) == lines


def test_turn_of_3x_goes_back_to_three_files_when_it_had_three():
    """New files come as a full chain, old ones may not."""
    entry = service("turn", NEW)
    old = ServiceSettings(enabled=True, key="o.key", certificate="o.crt", bundle="ca.crt", listening=())

    assert entry.lines_back(old)[1] == "turn certs o.key o.crt ca.crt"


def test_without_old_files_there_is_no_way_back():
    """No line says "none" here: the plan must say that there is no way back."""
    entry = service("webadmin", NEW)
    old = ServiceSettings(enabled=True, key=None, certificate=None, bundle=None, listening=())

    assert entry.lines_back(old) == ()


def test_a_service_of_unknown_state_is_put_back_on():
    """Left off by mistake would be worse than restarted."""
    entry = service("xmpp", OLD)
    old = ServiceSettings(enabled=None, key="o.key", certificate="o.crt", bundle=None, listening=())

    assert entry.lines_back(old) == ("xmpp disable", "xmpp certs o.key o.crt", "xmpp enable")


def test_a_tls_port_of_none_means_nothing_listens():
    """`turn` without TLS has nothing to prove."""
    rows = mmp_transcripts.load("turn/status").reply.replace("447", "none")
    found = service("turn", NEW).current(command_of("turn").parse(Reply(command="turn", text=rows)))

    assert found.listening == ()


def test_a_status_without_any_listen_row_leaves_the_default_port():
    """The labels of some services are guessed, so a missing row is "not known"."""
    rows = "Enabled : true\nKey file : a.key\nCertificate file : a.crt"
    found = service("xmpp", OLD).current(command_of("xmpp").parse(Reply(command="xmpp", text=rows)))

    assert found.listening == (Listening(interface="", port=5222),)


def test_trust_stores_belong_to_their_release_and_process():
    """2.x trusts by process, 3.x by C2W."""
    names = {release: {store.name for store in trust_stores_of(release)} for release in (OLD, NEW)}

    assert names[OLD] == {
        "callbridge.cluster",
        "webbridge.trust",
        "xmpp.cluster",
        "loadbalancer.auth",
        "recorder.trust",
        "streamer.trust",
    }
    assert names[NEW] == {"callbridge.c2w", "callbridge.cluster", "webbridge3.c2w", "scheduler.c2w", "uploader.cms"}
    assert {store.name for store in service("webbridge3.c2w", NEW).trust_stores} == {"webbridge3.c2w"}
    assert service("recorder", NEW).trust_stores == ()
    assert [store.name for store in service("recorder", OLD).trust_stores] == ["recorder.trust"]


@pytest.mark.parametrize(
    ("name", "sample", "file"),
    [
        ("callbridge.c2w", "callbridge/status-3.8", "cmsedge-fullchain.cer"),
        ("callbridge.cluster", "callbridge/status-3.8", None),
        ("webbridge3.c2w", "webbridge3/status", "cmscore-fullchain.cer"),
        ("streamer.trust", "streamer/status-2.x", "callbridge.crt"),
        ("uploader.cms", "uploader/status", "ROOTCA.cer"),
        ("loadbalancer.auth", "loadbalancer-list/two-tags", "trunk.crt"),
    ],
)
def test_trust_files_are_read_from_status_samples(name, sample, file):
    """The word none is no file."""
    store = next(store for store in TRUST_STORES if store.name == name)

    assert store.current(status(sample)) == file


def test_a_trust_store_takes_effect_by_the_lines_of_its_process():
    """A call bridge restarts, a web bridge goes off and on, one that is off gets the line only."""
    stores = {store.name: store for store in TRUST_STORES}

    assert stores["callbridge.c2w"].apply_lines("t.crt", enabled=True) == (
        "callbridge trust c2w t.crt",
        "callbridge restart",
    )
    assert stores["webbridge3.c2w"].apply_lines("t.crt", enabled=True) == (
        "webbridge3 disable",
        "webbridge3 c2w trust t.crt",
        "webbridge3 enable",
    )
    assert stores["uploader.cms"].apply_lines("t.crt", enabled=False) == ("uploader cms trust t.crt",)


def test_a_load_balancer_trusts_together_with_its_own_files():
    """`auth` takes all three files, so the old two are named again."""
    store = next(store for store in TRUST_STORES if store.name == "loadbalancer.auth")
    old = service("loadbalancer", OLD).current(status("loadbalancer-list/two-tags"))

    assert store.apply_lines("t.crt", enabled=True, settings=old) == (
        "loadbalancer disable edge1",
        "loadbalancer auth edge1 edge1.key edge1.crt t.crt",
        "loadbalancer enable edge1",
    )
    with pytest.raises(InputError, match="together"):
        store.line("t.crt")


@pytest.mark.parametrize("store", TRUST_STORES, ids=lambda store: store.name)
def test_every_trust_store_names_services_there_are(store):
    """The leaves it may pin are those of services of the same releases."""
    release = store.last or NEW

    assert set(store.names_leaf_of) <= {entry.name for entry in services_of(release)}


def test_ports_are_probed_as_their_protocol_wants():
    """XMPP starts in clear, a C2W client does not listen, all others speak TLS at once."""
    probes = {entry.name: entry.probe for entry in SERVICES}

    assert {name for name, probe in probes.items() if probe is not Probe.TLS} == {"xmpp", "scheduler.c2w"}


def test_services_that_call_others_need_client_authentication():
    """The most likely wrong certificate of a public CA is one without clientAuth (mmp-reference 7.1)."""
    both = {entry.name for entry in SERVICES if "client" in entry.eku}

    assert both == {"callbridge", "webbridge3.c2w", "xmpp", "loadbalancer", "scheduler.c2w"}
