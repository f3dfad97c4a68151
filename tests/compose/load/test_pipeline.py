import json
from pathlib import Path

import pytest

from compose.errors import ProjectError
from compose.model.service import Condition, Dependency
from tests.compose.load.projects import load, write

PROFILES = """
    x-optional: &optional {condition: service_started, required: false}
    services:
      web: {image: x}
      db: {image: x, profiles: [data]}
      admin: {image: x, profiles: [debug], depends_on: [db]}
      tool: {image: x, profiles: [debug], depends_on: {db: *optional}}
"""


def test_services_without_a_profile_are_always_on(tmp_path: Path) -> None:
    project = load(tmp_path, PROFILES)
    assert (list(project.services), sorted(project.disabled)) == (["web"], ["admin", "db", "tool"])


def test_profiles_come_from_the_command_line_or_the_environment(tmp_path: Path) -> None:
    both = load(tmp_path, PROFILES, profiles=("debug", "data"))
    assert sorted(both.services) == ["admin", "db", "tool", "web"]
    environment = {"COMPOSE_PROFILES": "debug,data"}
    assert load(tmp_path, environment=environment).services == both.services
    assert load(tmp_path, profiles=("*",)).services == both.services


def test_a_required_dependency_that_is_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r'admin.*the service "db" is off: .* profile data only'):
        load(tmp_path, PROFILES, profiles=("debug",))


def test_an_optional_dependency_may_be_off(tmp_path: Path) -> None:
    text = PROFILES.replace(", depends_on: [db]", "")
    project = load(tmp_path, text, profiles=("debug",))
    assert "db" not in project.services
    assert not project.services["tool"].depends_on["db"].required


def test_a_service_that_is_named_is_on_with_what_it_needs(tmp_path: Path) -> None:
    text = """
        services:
          web: {image: x, depends_on: [api]}
          api: {image: x, networks: [back]}
          other: {image: x, networks: [far], volumes: ["v:/v"]}
        networks: {back: , far: }
        volumes: {v: }
        """
    project = load(tmp_path, text, services=("web",))
    assert sorted(project.services) == ["api", "web"]
    assert sorted(project.networks) == ["back", "default"]
    assert project.volumes == {}
    assert project.disabled == {"other"}
    alone = load(tmp_path, services=("web",), with_dependencies=False)
    assert list(alone.services) == ["web"]
    named = load(tmp_path, PROFILES.replace(", depends_on: [db]", ""), services=("admin",))
    assert list(named.services) == ["admin"]


def test_an_unknown_service_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match='there is no service "wbe"\n  hint: did you mean "web"'):
        load(tmp_path, PROFILES, services=("wbe",))


def test_unused_resources_are_left_out_unless_all_are_wanted(tmp_path: Path) -> None:
    text = "services: {a: {image: x}}\nnetworks: {n: }\nvolumes: {v: }\nconfigs: {c: {content: x}}"
    project = load(tmp_path, text)
    assert (list(project.networks), project.volumes, project.configs) == (["default"], {}, {})
    everything = load(tmp_path, all_resources=True)
    assert sorted(everything.networks) == ["default", "n"]
    assert sorted(everything.volumes) == ["v"]
    assert everything.configs["c"].content == b"x"


def test_other_attributes_bring_dependencies_along(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
        services:
          a: {image: x, links: ["b:alias"], volumes_from: ["c:ro", "container:z"], pid: "service:d"}
          b: {image: x}
          c: {image: x}
          d: {image: x}
          e: {image: x, links: [b], depends_on: {b: {condition: service_healthy}}}
        """,
    )
    assert project.services["a"].depends_on == {
        "b": Dependency("b", Condition.STARTED, restart=True),
        "c": Dependency("c", Condition.STARTED),
        "d": Dependency("d", Condition.STARTED, restart=True),
    }
    assert project.services["e"].depends_on == {"b": Dependency("b", Condition.HEALTHY)}


def test_a_folder_as_image_is_relative_to_the_project(tmp_path: Path) -> None:
    project = load(tmp_path, "services: {a: {image: 'rootfs:./tree'}, b: {image: 'rootfs:/'}}")
    assert project.services["a"].image == f"rootfs:{tmp_path}/tree"
    assert project.services["b"].image == "rootfs:/"


def test_environment_has_its_files_folded_in(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "one.env": "A=one\nB=one\nC=${D:-d}\nFROM_SHELL",
            "two.env": "B=two",
            "raw.env": "R='$x'",
            "l.labels": "a=file\nb=file",
        },
    )
    project = load(
        tmp_path,
        """
        services:
          a:
            image: x
            env_file: [one.env, two.env, {path: raw.env, format: raw},
                       {path: none.env, required: false}]
            environment: {A: own, FROM_SHELL: , UNSET: }
            label_file: l.labels
            labels: {b: own}
        """,
        environment={"FROM_SHELL": "shell"},
    )
    assert project.services["a"].environment == {
        "A": "own",
        "B": "two",
        "C": "d",
        "FROM_SHELL": "shell",
        "R": "'$x'",
        "UNSET": None,
    }
    assert project.services["a"].labels == {"a": "file", "b": "own"}
    names = {path.name for path in project.watched_files}
    assert names == {"compose.yaml", "one.env", "two.env", "raw.env", "none.env", "l.labels"}


def test_contents_of_configs_and_secrets_are_known(tmp_path: Path) -> None:
    write(tmp_path, {"file.txt": "from a file"})
    project = load(
        tmp_path,
        """
        services: {a: {image: x, configs: [f, i], secrets: [e, x]}}
        configs: {f: {file: file.txt}, i: {content: "in ${NAME}"}}
        secrets: {e: {environment: NAME}, x: {external: true}}
        """,
        environment={"NAME": "hush"},
    )
    assert project.configs["f"].content == b"from a file"
    assert project.configs["i"].content == b"in hush"
    assert project.secrets["e"].content == b"hush"
    assert project.secrets["x"].content is None
    assert project.secrets["x"].name == "x"
    digests = {
        project.configs["f"].digest,
        project.configs["i"].digest,
        project.secrets["e"].digest,
    }
    assert len(digests) == 3
    assert "hush" not in json.dumps(project.to_document()["secrets"])
    assert "hush" not in repr(project.secrets)


def test_missing_files_can_be_left_for_later(tmp_path: Path) -> None:
    text = """
        services: {a: {image: x, env_file: none.env, secrets: [s]}}
        secrets: {s: {file: none.txt}}
        """
    with pytest.raises(ProjectError) as error:
        load(tmp_path, text)
    project = load(tmp_path, require_files=False)
    assert project.unmet == error.value.problems
    assert [problem.path for problem in project.unmet] == [
        "services.a.env_file[0]",
        "secrets.s.file",
    ]


def test_files_of_services_that_are_off_do_not_matter(tmp_path: Path) -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [p], env_file: none.env}}"
    assert load(tmp_path, text).unmet == ()


def test_old_truths_are_taken_with_a_warning(tmp_path: Path) -> None:
    project = load(tmp_path, "services:\n  a: {image: x, tty: yes, init: 'no'}\n")
    assert (project.services["a"].tty, project.services["a"].init) == (True, False)
    assert [str(warning.at) for warning in project.warnings] == [
        "compose.yaml:2:22",
        "compose.yaml:2:33",
    ]


def test_text_from_variables_becomes_numbers_and_truths(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
        services:
          a:
            image: x
            scale: ${N}
            privileged: ${YES}
            cpus: "${HALF}"
            mem_limit: ${SIZE}
            ports: ["${N}:${N}", {target: "${N}"}]
        """,
        environment={"N": "1", "YES": "true", "HALF": "0.5", "SIZE": "1g"},
    )
    a = project.services["a"]
    assert (a.scale, a.privileged, a.cpus, a.mem_limit) == (1, True, 0.5, 1 << 30)
    assert [port.target for port in a.ports] == [1, 1]


def test_an_obsolete_version_is_warned_about(tmp_path: Path) -> None:
    project = load(tmp_path, "version: '3.8'\nservices: {a: {image: x}}\n")
    assert str(project.warnings[0]).startswith("compose.yaml:1:1: version: ")
    assert "version" not in project.to_document()


def test_documents_of_one_file_are_merged(tmp_path: Path) -> None:
    text = "services: {a: {image: x, user: u}}\n---\nservices: {a: {image: y}, b: {image: z}}\n"
    project = load(tmp_path, text)
    assert (project.services["a"].image, project.services["a"].user) == ("y", "u")
    assert list(project.services) == ["a", "b"]


def test_every_part_of_the_model_can_be_placed(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
        services:
          web:
            image: x
            ports:
              - 8080:80
              - "9000-9001:90-91"
        """,
    )
    assert str(project.at("services", "web", "ports", 0)) == "compose.yaml:5:9"
    assert str(project.at("services", "web", "ports", 2)) == "compose.yaml:6:9"
    assert project.services["web"].ports[2].target == 91
    assert str(project.at("services", "web", "networks", "default")) == "compose.yaml:2:3"


def test_nothing_is_left_of_an_example_but_its_own_canonical_form(tmp_path: Path) -> None:
    """`config` gives a file that loads as the same project."""
    here = Path(__file__).parent
    (tmp_path / "compose.yaml").write_text((here / "rich.yaml").read_text())
    (tmp_path / "rich.env").write_text("AENV=1\nX=9\n")
    project = load(tmp_path, environment={"FROM_SHELL": "yes"})
    document = project.to_document()
    golden = (here / "rich.json").read_text().replace("/PROJECT", str(tmp_path))
    assert json.dumps(document, indent=2, ensure_ascii=False) == golden.rstrip("\n")
    again = tmp_path / "again"
    again.mkdir()
    # Blkio shows its inner keys in capitals, as Compose does; no schema takes them back.
    loadable = json.loads(json.dumps(document).replace("$", "$$"))
    del loadable["services"]["web"]["blkio_config"]
    del document["services"]["web"]["blkio_config"]  # type: ignore[index]
    second = load(again, json.dumps(loadable), environment={"FROM_SHELL": "yes"})
    assert second.to_document() == document


def test_a_decimal_file_mode_is_warned_about(tmp_path: Path) -> None:
    text = """
        services:
          a: {image: x, configs: [{source: c, mode: 440}, {source: c, target: /o, mode: 0440}]}
        configs: {c: {content: ""}}
        """
    project = load(tmp_path, text)
    assert [config.mode for config in project.services["a"].configs] == [0o670, 0o440]
    assert project.configs["c"].content == b""
    (warning,) = project.warnings
    assert str(warning) == (
        "compose.yaml:2:45: services.a.configs[0].mode: 440 is a decimal number: the mode becomes "
        '0670\n  hint: if you mean octal, write "0440"'
    )


def test_a_volume_keeps_the_label_that_its_short_form_asks_for(tmp_path: Path) -> None:
    project = load(tmp_path, "services: {a: {image: x, volumes: ['v:/v:z']}}\nvolumes: {v: }")
    (mount,) = project.services["a"].volumes
    assert mount.to_document() == {
        **{"type": "volume", "source": "v", "target": "/v"},
        **{"bind": {"selinux": "z"}, "volume": {}},
    }


def test_only_what_is_meant_may_not_share_a_container_name(tmp_path: Path) -> None:
    text = "services: {a: {image: x, container_name: one}, b: {image: x, container_name: one}}"
    assert [*load(tmp_path, text, services=("b",)).services] == ["b"]
    with pytest.raises(ProjectError, match="the container name one is taken"):
        load(tmp_path, text)
    # What runs can be looked at and taken down all the same.
    (problem,) = load(tmp_path, text, require_files=False).unmet
    assert "the container name one is taken" in problem.what


def test_resources_alone_are_a_project_where_all_are_asked_for(tmp_path: Path) -> None:
    project = load(tmp_path, "volumes: {v: }", all_resources=True)
    assert [*project.volumes] == ["v"]
    with pytest.raises(ProjectError, match="declares no services"):
        load(tmp_path, "volumes: {v: }")


def test_what_initial_sync_was_called_at_first_counts_with_a_warning(tmp_path: Path) -> None:
    rule = "{action: sync, path: ./a, target: /a, x-initialSync: true}"
    project = load(tmp_path, f"services: {{web: {{image: x, develop: {{watch: [{rule}]}}}}}}")
    (watched,) = project.services["web"].watch or ()
    assert watched.syncs_first
    assert ["write initial_sync" for one in project.warnings if "x-initialSync" in one.what] == [
        one.hint for one in project.warnings
    ]
