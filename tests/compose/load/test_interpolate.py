import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.load.interpolate import BadTemplate, MissingVariable, escape, substitute

ENVIRONMENT = {"SET": "value", "EMPTY": "", "OTHER": "other", "lower": "l"}


def filled(text: str) -> str:
    return substitute(text, ENVIRONMENT.get, lambda name: None)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("${lower}$lower", "ll"),
        ("a$SET/b", "avalue/b"),
        ("$SET$OTHER", "valueother"),
        ("${NONE}", ""),
        ("$$SET", "$SET"),
        ("$$$SET", "$value"),
        ("$$", "$"),
        ("$", "$"),
        ("$1", "$1"),
        ("$(ls)", "$(ls)"),
        ("costs 5$ ", "costs 5$ "),
        ("${SET:-d}", "value"),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${SET-d}", "value"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${SET:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${NONE:+r}", ""),
        ("${SET+r}", "r"),
        ("${EMPTY+r}", "r"),
        ("${NONE+r}", ""),
        ("${SET:?e}", "value"),
        ("${EMPTY?e}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${NONE:-$SET}", "value"),
        ("${NONE:-${EMPTY:-${OTHER}}}", "other"),
        ("${NONE:-x${SET}y}z", "xvalueyz"),
        ("${NONE:-$$}", "$"),
        ("${SET:-${NONE:?never looked at}}", "value"),
        ("${NONE:+${NONE:?never looked at}}", ""),
        ('${NONE:-{"a":1}}', '{"a":1}'),
        ("${NONE:-http://x/?a=b}", "http://x/?a=b"),
    ],
)
def test_variables_are_filled_in(text: str, result: str) -> None:
    assert filled(text) == result


@pytest.mark.parametrize(
    "text", ["${SET/a/b}", "${1}", "${", "${SET", "${}", "${NONE:-${SET}", "${ SET}"]
)
def test_what_is_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        filled(text)


@pytest.mark.parametrize("text", ["${NONE:?say}", "${EMPTY:?say}", "${NONE?say}", "a${NONE?say}b"])
def test_a_required_variable_is_demanded_with_its_text(text: str) -> None:
    with pytest.raises(MissingVariable) as error:
        filled(text)
    assert error.value.text == "say"


def test_the_text_of_a_demand_may_hold_variables() -> None:
    with pytest.raises(MissingVariable) as error:
        filled("${NONE:?set $OTHER}")
    assert error.value.text == "set other"


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(BadTemplate, match="nested more than 50 levels deep"):
        filled("${A:-" * 10_000 + "}" * 10_000)


def test_missing_variables_are_told_only_where_they_are_needed() -> None:
    told: list[str] = []
    substitute("$A ${B:-x} ${SET:-$C} ${D:+$E}", ENVIRONMENT.get, told.append)
    assert told == ["A"]


@given(st.text())
def test_escaped_text_comes_back(text: str) -> None:
    assert filled(escape(text)) == text


@given(st.text(alphabet="${}:-+?AB ", max_size=20))
def test_any_text_is_filled_or_refused(text: str) -> None:
    with contextlib.suppress(BadTemplate, MissingVariable):
        assert isinstance(filled(text), str)
