"""Numbers in parentheses are those of the isolation requirements, part A."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.runtime.capabilities import DEFAULT, NAMES, effective, mask, names

EVERYTHING = frozenset(NAMES)
some = st.sets(st.sampled_from(NAMES))


def test_default_set_is_docker_s() -> None:
    """(1)"""
    assert mask(DEFAULT) == 0xA80425FB
    assert mask(effective((), (), False, EVERYTHING)) == 0xA80425FB


def test_bits_are_the_kernel_s() -> None:
    assert mask(["CAP_CHOWN"]) == 1
    assert mask(["CAP_SYS_ADMIN"]) == 1 << 21
    assert mask(["CAP_SYSLOG"]) == 1 << 34
    assert mask(NAMES) == 0x1FFFFFFFFFF


@given(some)
def test_names_and_bits_agree(chosen: set[str]) -> None:
    assert set(names(mask(chosen))) == chosen


@given(some, some)
def test_adding_and_dropping_is_bit_arithmetic(add: set[str], drop: set[str]) -> None:
    """(3): what is in both is added."""
    assert mask(effective(add, drop, False, EVERYTHING)) == mask(DEFAULT) & ~mask(drop) | mask(add)


@pytest.mark.parametrize("spelling", ["SYS_ADMIN", "cap_sys_admin", "Cap_Sys_Admin", "sys_admin"])
def test_names_are_taken_in_any_spelling(spelling: str) -> None:
    assert "CAP_SYS_ADMIN" in effective([spelling], (), False, EVERYTHING)


def test_all_means_all_that_the_engine_has() -> None:
    held = EVERYTHING - {"CAP_SYS_RESOURCE"}
    assert set(effective(["ALL"], (), False, held)) == held
    assert set(effective(["all"], ["MKNOD"], False, held)) == held - {"CAP_MKNOD"}
    assert effective((), ["ALL"], False, held) == ()
    assert effective(["CHOWN"], ["ALL"], False, held) == ("CAP_CHOWN",)
    assert set(effective(["ALL"], ["ALL"], False, held)) == held


def test_privileged_is_the_engine_s_own_set() -> None:
    held = frozenset(("CAP_CHOWN", "CAP_SYS_TIME"))
    assert effective((), ["ALL"], True, held) == ("CAP_CHOWN", "CAP_SYS_TIME")


def test_defaults_that_the_engine_lacks_are_left_out() -> None:
    assert effective((), (), False, frozenset(("CAP_KILL",))) == ("CAP_KILL",)


@pytest.mark.parametrize("name", ["CAP_FOO", "", "CAP_", "CAP_ALL", "SYS ADMIN"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="unknown capability"):
        effective([name], (), False, EVERYTHING)
    with pytest.raises(InvalidRequest, match="invalid CapDrop"):
        effective((), [name], True, EVERYTHING)


def test_a_capability_that_the_engine_lacks_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="CAP_SYS_TIME"):
        effective(["SYS_TIME"], (), False, frozenset(DEFAULT))
