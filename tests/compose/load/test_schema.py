"""The schema itself, and that the quick check and jsonschema agree about it."""

import json
from dataclasses import fields as fields_of
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from compose.load.bind import _ATTRIBUTES
from compose.load.schema import _validator, check_file
from compose.load.shape import SCHEMA_FILE, plain, shape_of
from compose.load.tree import Broken, Map, Problems, Sequence, Source, parse
from compose.model.service import Service

SCHEMA = json.loads(SCHEMA_FILE.read_text())
SOURCE = Source("compose.yaml", Path("/p/compose.yaml"), Path("/p"))


def tree(text: str) -> Map:
    (root,) = parse(text, SOURCE, Problems())
    return root


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_attribute_of_a_service_is_read() -> None:
    by_others = {"environment", "env_file", "labels", "label_file", "extends"}
    assert set(SCHEMA["$defs"]["service"]["properties"]) == set(_ATTRIBUTES) | by_others
    names = {field.name for field in fields_of(Service)}
    assert set(_ATTRIBUTES) - {"develop"} <= names


def test_examples_fit_the_schema_itself() -> None:
    import yaml

    for path in (Path(__file__).parent / "rich.yaml",):
        text = path.read_text().replace("!reset", "")
        Draft202012Validator(SCHEMA).validate(yaml.safe_load(text))


def test_what_does_not_fit_is_broken_and_the_rest_stays() -> None:
    problems = Problems()
    root = check_file(
        tree("services:\n  a: {image: x, ports: 80, cap_add: [A, {b: c}]}\n"), problems
    )
    services = root.entries["services"]
    assert isinstance(services, Map)
    a = services.entries["a"]
    assert isinstance(a, Map)
    assert isinstance(a.entries["ports"], Broken)
    caps = a.entries["cap_add"]
    assert isinstance(caps, Sequence)
    assert [type(item).__name__ for item in caps.items] == ["Scalar", "Broken"]
    assert len(problems.errors) == 2


@pytest.mark.parametrize("count", [1, 300])
def test_all_misfits_are_told_however_many(count: int) -> None:
    problems = Problems()
    lines = [f"  s{number}: {{imge: x, ports: 80}}" for number in range(count)]
    check_file(tree("services:\n" + "\n".join(lines)), problems)
    assert len(problems.errors) == 2 * count


_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70000),
    st.floats(-2, 200),
    st.sampled_from(["x", "", "80", "true", "host", "bind", "always", "service_started", "1.5"]),
)
_keys = st.sampled_from(
    sorted(
        {
            *SCHEMA["properties"],
            *SCHEMA["$defs"]["service"]["properties"],
            *("context", "driver", "condition", "type", "target", "soft", "hard", "test", "x-a"),
            *("replicas", "resources", "limits", "watch", "path", "action", "odd key", "name"),
        }
    )
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)
_service = st.dictionaries(_keys, _values, max_size=4)
_files = st.one_of(
    st.dictionaries(_keys, _values, max_size=3),
    st.fixed_dictionaries({"services": st.dictionaries(st.just("a"), _service)}),
)


@given(_files)
def test_the_quick_check_and_jsonschema_agree(document: object) -> None:
    root = tree(json.dumps(document))
    assert shape_of("")(root) == _validator("").is_valid(plain(root))


@given(_files)
def test_every_refused_file_gets_words(document: object) -> None:
    root = tree(json.dumps(document))
    problems = Problems()
    checked = check_file(root, problems)
    assert bool(problems.errors) != shape_of("")(root)
    # What is left after the misfits are taken out is fine.
    assert shape_of("")(checked)
    for problem in problems.errors:
        assert problem.at is not None
        assert "is not valid under any" not in problem.what
