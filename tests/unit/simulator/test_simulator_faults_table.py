"""Which faults happen when."""

import pytest

from simulator.faults import Fault, FaultKind, Faults


def _fault(**details: object) -> Fault:
    return Fault.from_json({"kind": "failure", **details})


def test_fault_is_used_up() -> None:
    """Without `times` a fault on a command happens once."""
    faults = Faults([_fault(match="pki csr *")])
    happened = [len(faults.use({FaultKind.FAILURE}, "a", line)) for line in ("pki list", "pki csr x", "pki csr x")]
    assert happened == [0, 1, 0]


def test_lasting_fault_stays() -> None:
    """A closed port is closed until the fault is removed."""
    faults = Faults()
    fault_id = faults.add(Fault.from_json({"kind": "unreachable", "match": "ssh"}))
    assert [bool(faults.first(FaultKind.UNREACHABLE, "a", name)) for name in ("ssh", "webadmin")] == [True, False]
    assert faults.remove(fault_id)
    assert faults.first(FaultKind.UNREACHABLE, "a", "ssh") is None


def test_change_is_told() -> None:
    """Whoever keeps ports in step hears of each change."""
    told = []
    faults = Faults()
    faults.changed = lambda: told.append("changed")
    faults.add(_fault())
    faults.clear()
    assert told == ["changed", "changed"]


def test_hits_are_remembered() -> None:
    """Tests can ask which fault happened where."""
    faults = Faults([_fault(id="mine")])
    faults.use({FaultKind.FAILURE}, "cmscore1", "version")
    assert faults.hits == [("mine", "cmscore1", "version")]


@pytest.mark.parametrize("value", [{}, {"kind": "earthquake"}, {"kind": "hang", "where": "here"}])
def test_nonsense_is_refused(value: dict[str, str]) -> None:
    """Unknown kinds and keys are errors, not silence."""
    with pytest.raises(ValueError, match=r"fault|earthquake"):
        Fault.from_json(value)


def test_fault_survives_json() -> None:
    """What is written can be read again."""
    fault = _fault(node="a*", seconds=1.5, skip=2, text="x", id="f")
    assert Fault.from_json(fault.to_json()) == fault
