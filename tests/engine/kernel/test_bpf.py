"""The device filter, run by a small interpreter of the eBPF that it uses. The kernel's own
verifier and cgroup v2 have their say in `tests/engine/runtime/test_cgroup_tree.py`."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from engine.kernel.bpf import device_program
from engine.runtime.cgroups import DeviceRule, device_rules
from engine.runtime.devices import DEFAULT_RULES

BITS = {"m": 1, "r": 2, "w": 4}
KINDS = {"b": 1, "c": 2}


def allowed(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Run `program` on a struct bpf_cgroup_dev_ctx; it must end, and reach no odd instruction."""
    asked = sum(BITS[letter] for letter in access)
    context = struct.pack("=III", asked << 16 | KINDS[kind], major, minor)
    code = list(struct.iter_unpack("=BBhi", program))
    register = [0] * 11
    at = 0
    while True:
        operation, registers, offset, immediate = code[at]
        target, source = registers & 15, registers >> 4
        at += 1
        match operation:
            case 0x61:
                assert source == 1
                register[target] = struct.unpack_from("=I", context, offset)[0]
            case 0xBF:
                register[target] = register[source]
            case 0xB7:
                register[target] = immediate
            case 0x54:
                register[target] &= immediate & 0xFFFFFFFF
            case 0x74:
                register[target] >>= immediate
            case 0x55:
                at += offset if register[target] != immediate else 0
            case 0x5D:
                at += offset if register[target] != register[source] else 0
            case 0x15:
                at += offset if register[target] == immediate else 0
            case 0x95:
                return bool(register[0])
            case _:
                raise AssertionError(f"instruction {operation:#x}")


accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
numbers = st.one_of(st.none(), st.integers(0, 3))
rules = st.builds(
    DeviceRule,
    allow=st.booleans(),
    kind=st.sampled_from("abc"),
    major=numbers,
    minor=numbers,
    access=accesses,
)


def decide(listed: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    for rule in reversed(listed):
        if rule.kind not in ("a", kind):
            continue
        if rule.major not in (None, major) or rule.minor not in (None, minor):
            continue
        if rule.allow and set(access) <= set(rule.access):
            return True
        if not rule.allow and set(access) & set(rule.access):
            return False
    return False


@given(
    st.lists(rules, max_size=8),
    st.sampled_from("bc"),
    st.integers(0, 3),
    st.integers(0, 3),
    accesses,
)
def test_the_last_rule_that_fits_decides(
    listed: list[DeviceRule], kind: str, major: int, minor: int, access: str
) -> None:
    program = device_program(listed)
    assert allowed(program, kind, major, minor, access) == decide(
        listed, kind, major, minor, access
    )


def test_default_rules() -> None:
    listed = device_rules({"devices": [rule.to_oci() for rule in DEFAULT_RULES]})
    assert listed is not None
    program = device_program(listed)
    assert allowed(program, "c", 1, 3, "rw")
    assert allowed(program, "c", 136, 77, "rw")
    assert allowed(program, "b", 8, 0, "m")
    assert not allowed(program, "b", 8, 0, "r")
    assert not allowed(program, "c", 10, 200, "rw")
    assert not allowed(program, "c", 10, 229, "r")
    assert allowed(program, "c", 10, 229, "m")


def test_nothing_follows_a_rule_that_fits_everything() -> None:
    """The verifier refuses instructions that can't be reached."""
    everything = DeviceRule(True, "a", None, None, "rwm")
    other = DeviceRule(False, "c", 1, 1, "rwm")
    assert len(device_program([other, everything])) == len(device_program([everything]))
