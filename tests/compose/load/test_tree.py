from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.load.tree import (
    Map,
    Node,
    Problems,
    Scalar,
    Sequence,
    Source,
    TreePositions,
    parse,
    plain_value,
    spelled,
)

SOURCE = Source("compose.yaml", Path("/p/compose.yaml"), Path("/p"))


def tree(text: str) -> Map:
    problems = Problems()
    (root,) = parse(text, SOURCE, problems)
    assert problems.errors == []
    return root


def wrong(text: str) -> str:
    problems = Problems()
    parse(text, SOURCE, problems)
    return "\n".join(str(problem) for problem in problems.errors)


def value(node: Node) -> object:
    if isinstance(node, Map):
        return {key: value(entry) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [value(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.value


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0x10", 16),
        ("017", 15),
        ("0o17", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("09", "09"),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
        ("12345678901234567890", 12345678901234567890),
        ("nginx", "nginx"),
        ("-", "-"),
        ("0x", "0x"),
        ("2001-01-01", "2001-01-01"),
    ],
)
def test_an_unquoted_scalar_means(text: str, meaning: object) -> None:
    found = plain_value(text)
    assert (found, type(found) is bool) == (meaning, type(meaning) is bool)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("true", "true"),
        ("1.50", "1.5"),
        ("0x10", "16"),
        ("017", "15"),
        ("1e3", "1000"),
        ("100000000.0", "1e+08"),
        ("1234567.0", "1.234567e+06"),
        ("0.00001", "1e-05"),
        ("0.0", "0"),
        ("-2.5", "-2.5"),
        (".inf", "+Inf"),
        (".nan", "NaN"),
        ("12345678901234567890", "12345678901234567890"),
        ("yes", "yes"),
    ],
)
def test_a_scalar_put_into_text_is_spelled(text: str, shown: str) -> None:
    assert spelled(plain_value(text)) == shown


def test_every_key_and_value_knows_its_place() -> None:
    positions = TreePositions(
        tree("services:\n  web:\n    ports:\n      - '80:80'\n    image: x\n")
    )
    places = {".".join(map(str, place)): str(at) for place, at in positions.items()}
    assert places == {
        "": "compose.yaml:1:1",
        "services": "compose.yaml:1:1",
        "services.web": "compose.yaml:2:3",
        "services.web.ports": "compose.yaml:3:5",
        "services.web.ports.0": "compose.yaml:4:9",
        "services.web.image": "compose.yaml:5:12",
    }


def test_anchors_and_merge_keys_keep_the_place_of_the_anchor() -> None:
    root = tree("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  z: 9\nd:\n  e: *a\n")
    assert value(root.entries["c"]) == {"z": 9, "x": 1, "y": 2}
    merged = root.entries["c"]
    assert isinstance(merged, Map)
    assert str(merged.place_of("y")) == "compose.yaml:1:17"
    assert str(merged.place_of("z")) == "compose.yaml:5:6"


def test_later_anchors_of_a_name_win() -> None:
    assert value(tree("a: &x 1\nb: &x 2\nc: *x\n"))["c"] == 2  # type: ignore[index]


def test_documents_come_one_by_one() -> None:
    problems = Problems()
    roots = parse("a: 1\n---\nb: 2\n---\n# empty\n", SOURCE, problems)
    assert [value(root) for root in roots] == [{"a": 1}, {"b": 2}]
    assert problems.errors == []


def test_reset_and_override_are_kept_on_the_node() -> None:
    root = tree("a: !reset null\nb: !override [1]\nc: !reset {x: 1}\nd: !override text\n")
    merging = [(key, node.merging) for key, node in root.entries.items()]
    assert merging == [("a", "reset"), ("b", "override"), ("c", "reset"), ("d", "override")]
    assert value(root.entries["d"]) == "text"


def test_columns_count_letters_not_bytes() -> None:
    root = tree('ä: "ö"\nb: {ü: é}\n')
    assert str(root.place_of("ä")) == "compose.yaml:1:4"
    inner = root.entries["b"]
    assert isinstance(inner, Map)
    assert str(inner.place_of("ü")) == "compose.yaml:2:8"


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    told = wrong("\n".join(lines))
    assert "aliases repeat so much that the file would grow without bounds" in told


def test_ten_thousand_uses_of_one_anchor_are_fine() -> None:
    text = "a: &a {b: c, d: [1, 2, 3]}\nlist:\n" + "  - <<: *a\n    e: 1\n" * 10_000
    assert len(value(tree(text))["list"]) == 10_000  # type: ignore[index]


def test_endless_nesting_is_refused() -> None:
    assert "nested more than 100 levels deep" in wrong("a: " + "[" * 5000 + "]" * 5000)


def test_all_doubled_keys_are_told() -> None:
    told = wrong("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert told.count("is here twice") == 2


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(st.characters(codec="ascii"), max_size=8)
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1), _values, max_size=4))
def test_json_is_read_as_it_was_written(document: dict[str, object]) -> None:
    import json

    # JSON escapes whatever YAML can't hold.
    assert value(tree(json.dumps(document))) == document
