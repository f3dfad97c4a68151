from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import ProjectError
from compose.load.canonical import canonical
from compose.load.merge import merge, without_resets
from compose.load.tree import Map, Problems, Source, parse
from compose.model.document import Document
from tests.compose.load.projects import load, write
from tests.compose.load.test_tree import value


def root(text: str, label: str = "compose.yaml") -> Map:
    problems = Problems()
    source = Source(label, Path("/p") / label, Path("/p"))
    (tree,) = parse(text, source, problems)
    tree = canonical(tree, problems)
    assert problems.errors == []
    return tree


def merged(base: str, over: str) -> Document:
    problems = Problems()
    tree = merge(root(base), root(over, "override.yaml"), problems)
    assert problems.errors == []
    found = value(without_resets(tree))
    assert isinstance(found, dict)
    return found


def service(base: str, over: str) -> Document:
    """Of `{...}` and `{...}`, attributes of one service."""
    both = merged(f"services: {{a: {base}}}", f"services: {{a: {over}}}")
    found = both["services"]
    assert isinstance(found, dict)
    result = found["a"]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ("{image: a}", "{image: b}", {"image": "b"}),
        ("{image: a}", "{image: }", {"image": "a"}),
        ("{image: a}", "{user: b}", {"image": "a", "user": "b"}),
        ("{command: a b}", "{command: [c]}", {"command": ["c"]}),
        ("{entrypoint: [a]}", "{entrypoint: []}", {"entrypoint": []}),
        (
            "{healthcheck: {test: a, retries: 1}}",
            "{healthcheck: {test: [CMD, b]}}",
            {"healthcheck": {"test": ["CMD", "b"], "retries": 1}},
        ),
        (
            "{environment: [A=1, B=2]}",
            "{environment: {B: 3, C: 4}}",
            {"environment": {"A": "1", "B": 3, "C": 4}},
        ),
        ("{environment: {A: 1}}", "{environment: [A]}", {"environment": {"A": None}}),
        ("{labels: {a: x}}", "{labels: [b=y]}", {"labels": {"a": "x", "b": "y"}}),
        ("{dns: 1.1.1.1}", "{dns: [8.8.8.8, 1.1.1.1]}", {"dns": ["1.1.1.1", "8.8.8.8"]}),
        (
            "{env_file: a.env}",
            "{env_file: [{path: a.env, required: false}, b.env]}",
            {"env_file": [{"path": "a.env", "required": False}, {"path": "b.env"}]},
        ),
        ("{build: .}", "{build: {target: x}}", {"build": {"context": ".", "target": "x"}}),
        (
            "{depends_on: [a]}",
            "{depends_on: {a: {condition: service_healthy}}}",
            {"depends_on": {"a": {"condition": "service_healthy", "required": True}}},
        ),
        ("{networks: [a]}", "{networks: {b: {}}}", {"networks": {"a": None, "b": {}}}),
        (
            "{logging: {driver: a, options: {x: 1}}}",
            "{logging: {options: {y: 2}}}",
            {"logging": {"driver": "a", "options": {"x": 1, "y": 2}}},
        ),
        (
            "{logging: {driver: a, options: {x: 1}}}",
            "{logging: {driver: b}}",
            {"logging": {"driver": "b"}},
        ),
        (
            "{ulimits: {nofile: {soft: 1, hard: 2}}}",
            "{ulimits: {nofile: 5}}",
            {"ulimits": {"nofile": 5}},
        ),
        ("{cap_add: [A, B]}", "{cap_add: [B, C]}", {"cap_add": ["A", "B", "C"]}),
        ("{security_opt: [a]}", "{security_opt: [b]}", {"security_opt": ["a", "b"]}),
        (
            "{configs: [a]}",
            "{configs: [{source: b, target: /a}]}",
            {"configs": [{"source": "b", "target": "/a"}]},
        ),
        (
            "{secrets: [a]}",
            "{secrets: [{source: b, target: a}]}",
            {"secrets": [{"source": "b", "target": "a"}]},
        ),
        ("{extra_hosts: [a=1]}", '{extra_hosts: ["a:1", "b:2"]}', {"extra_hosts": ["a=1", "b=2"]}),
        ("{image: a, user: b}", "{user: !reset null}", {"image": "a"}),
        ("{environment: {A: 1, B: 2}}", "{environment: {A: !reset 0}}", {"environment": {"B": 2}}),
        ("{dns: [a, b]}", "{dns: !override [c]}", {"dns": ["c"]}),
        ("{labels: {a: 1}}", "{labels: !override {b: 2}}", {"labels": {"b": 2}}),
        ("{user: !reset a}", "{image: b}", {"image": "b"}),
    ],
)
def test_one_service_over_another(base: str, over: str, result: Document) -> None:
    assert service(base, over) == result


def test_ports_are_one_when_address_port_and_protocol_are() -> None:
    ports = service('{ports: ["80:80", "53:53"]}', '{ports: ["0.0.0.0:80:80", "53:53/udp"]}')[
        "ports"
    ]
    assert isinstance(ports, list)
    told = [(port.get("published"), port["protocol"]) for port in ports]
    assert told == [("80", "tcp"), ("53", "tcp"), ("53", "udp")]


def test_a_mount_replaces_the_one_on_its_target_and_keeps_its_turn() -> None:
    volumes = service('{volumes: ["./a:/x", "./b:/y"]}', '{volumes: ["v:/x:ro"]}')["volumes"]
    assert volumes == [
        {"type": "volume", "source": "v", "target": "/x", "read_only": True, "volume": {}},
        {"type": "bind", "source": "./b", "target": "/y", "bind": {"create_host_path": True}},
    ]


def test_pools_of_a_network_merge_by_subnet() -> None:
    base = "networks: {n: {ipam: {config: [{subnet: a, gateway: x}]}}}"
    over = "networks: {n: {ipam: {config: [{subnet: a, gateway: y}, {subnet: b}]}}}"
    assert merged(base, over)["networks"] == {
        "n": {"ipam": {"config": [{"subnet": "a", "gateway": "y"}, {"subnet": "b"}]}}
    }


def test_values_keep_the_place_of_the_file_that_set_them() -> None:
    tree = merge(
        root("services:\n  a:\n    image: x\n    user: y\n"),
        root("services:\n  a:\n    user: z\n", "override.yaml"),
        Problems(),
    )
    services = tree.entries["services"]
    assert isinstance(services, Map)
    a = services.entries["a"]
    assert isinstance(a, Map)
    assert str(a.place_of("image")) == "compose.yaml:3:12"
    assert str(a.place_of("user")) == "override.yaml:3:11"
    assert str(services.place_of("a")) == "compose.yaml:2:3"


def test_an_override_of_another_form_is_told_with_both_places() -> None:
    problems = Problems()
    merge(root("x-a: [1]"), root("x-a: {b: 1}", "override.yaml"), problems)
    assert str(problems.errors[0]) == (
        "override.yaml:1:6: x-a: cannot override a list with a mapping; the other one is at "
        "compose.yaml:1:6\n"
        "  hint: write both in the same form, or put !override before this value to replace the "
        "other"
    )


def test_an_override_file_is_found_and_merged(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "services: {a: {image: x, ports: ['80:80']}}",
            "compose.override.yaml": "services: {a: {user: me, ports: !reset []}}",
        },
    )
    a = load(tmp_path).services["a"]
    assert (a.image, a.user, a.ports) == ("x", "me", ())


def test_problems_of_an_override_are_told_at_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.yaml": "services: {a: {image: x}}", "sub/b.yaml": "services:\n  a: {mem_limit: 1x}"},
    )
    with pytest.raises(ProjectError, match=r"^sub/b\.yaml:2:18: services\.a\.mem_limit: "):
        load(tmp_path, files=("a.yaml", "sub/b.yaml"))


_NAMES = st.sampled_from(["image", "user", "x-a", "x-b"])
_SERVICES = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.fixed_dictionaries(
        {},
        optional={
            "image": st.sampled_from(["x", "y"]),
            "environment": st.dictionaries(st.sampled_from("AB"), st.sampled_from("12")),
            "ports": st.lists(st.sampled_from(["80:80", "90"]), unique=True),
            "volumes": st.lists(st.sampled_from(["a:/a", "./b:/b"]), unique=True),
            "command": st.lists(st.sampled_from(["x", "y"])),
            "depends_on": st.lists(st.sampled_from("cd"), unique=True),
            "cap_add": st.lists(st.sampled_from(["A", "B"]), unique=True),
        },
    ),
)


def _written(services: object) -> str:
    import json

    return json.dumps({"services": services})


@given(_SERVICES)
def test_merging_with_nothing_or_with_itself_changes_nothing(services: object) -> None:
    text = _written(services)
    alone = value(root(text))
    assert merged(text, "{}") == alone
    assert merged("{}", text) == alone
    assert merged(text, text) == alone


@given(_SERVICES, _SERVICES, _SERVICES)
def test_merging_is_associative(a: object, b: object, c: object) -> None:
    one, two, three = root(_written(a)), root(_written(b)), root(_written(c))
    problems = Problems()
    left = merge(merge(one, two, problems), three, problems)
    right = merge(one, merge(two, three, problems), problems)
    assert value(left) == value(right)
