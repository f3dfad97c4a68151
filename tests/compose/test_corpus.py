"""`config` beside Docker Compose's: on projects written here, and on a folder that is named.

PYCOMPOSE_CORPUS may name a folder of public projects; PEER_ROOT the place of Docker Compose.
"""

import json
import os
import textwrap
from pathlib import Path

import pytest

from tests.compose.corpus import compare, find_compose, ours, report, run

CASES = {
    "absolute paths stay as they are written": """
        services: {a: {image: x, volumes: ["/data//x/:/a", "./y//z/:/b", "~/q/:/c"]}}
        """,
    "a list that names a thing twice": """
        services:
          a:
            image: x
            environment: [A=1, B=2, A=1, A=3]
            volumes: ["v1:/a", "./b:/a", "v1:/c"]
            ports: ["80:80", "80:80/tcp", "81:80"]
            cap_add: [NET_ADMIN, NET_ADMIN]
            expose: [80, "80"]
            dns: [1.1.1.1, 1.1.1.1]
        volumes: {v1: {}}
        """,
    "anonymous volumes": "services: {a: {image: x, volumes: [/anon, {type: volume, target: /b}]}}",
    "tags that are said twice": "services: {a: {build: {context: ., tags: [x, y, x]}}}",
    "an external network with a driver": """
        services: {a: {image: x, networks: {n: {aliases: [b, b]}}}}
        networks: {n: {external: true, driver: bridge}}
        """,
    "networks without attributes": """
        services: {a: {image: x, networks: {n: {}, m: }}, b: {image: x, networks: [n]}}
        networks: {n: {}, m: {}}
        """,
    "devices without a count": """
        services:
          a: {image: x, gpus: [{driver: nvidia}]}
          b:
            image: x
            deploy:
              resources: {reservations: {devices: [{capabilities: [gpu]}]}}
        """,
    "long binds say what they say": """
        services:
          a:
            image: x
            volumes:
              - {type: bind, source: ., target: /a}
              - {type: bind, source: ., target: /b, bind: {propagation: rshared}}
              - {type: bind, source: ., target: /c, bind: {create_host_path: true}}
        """,
    "limits of zero": "services: {a: {image: x, ulimits: {core: {soft: 0, hard: 0}, nproc: 5}}}",
    "an empty dockerfile": 'services: {a: {build: {context: ., dockerfile: "${NOTHING}"}}}',
    "merge keys with a tag": """
        x-base: &base {restart: always}
        services: {a: {!!merge <<: *base, image: x}}
        """,
    "an optional dependency that is off": """
        services:
          a: {image: x, depends_on: {b: {condition: service_started, required: false}}}
          b: {image: x, profiles: [p]}
        """,
    "a name that must be made normal": 'name: "My App!_x"\nservices: {a: {image: x}}',
    "bind volumes below the project": """
        services: {a: {image: x, volumes: ["v1:/a", "v2:/b", "v3:/c"]}}
        volumes:
          v1: {driver: local, driver_opts: {type: none, o: bind, device: data}}
          v2: {driver_opts: {type: none, o: bind, device: data}}
          v3: {driver: local, driver_opts: {type: none, o: bind, device: ""}}
        """,
    "models": "services: {a: {image: x, models: [llm]}}\nmodels: {llm: {model: ai/x}}",
    "variables of secrets that aren't there": """
        services: {a: {image: x, secrets: [s], configs: [c]}}
        secrets: {s: {environment: NOBODY}}
        configs: {c: {file: ./nothing}}
        """,
    "names that no engine takes": """
        services:
          a: {image: "x:${UNSET}", hostname: "{{.Node}}", networks: [n], volumes: ["./b:c"]}
        networks: {n: {name: "${UNSET}"}}
        """,
    "zeros and empty lists": """
        services: {a: {image: x, ulimits: {core: 0}, build: {context: ., ulimits: {core: 0}}}}
        x-own: {none: [], empty: {}}
        """,
    "ports that clash": """
        services: {a: {image: x, ports: ["80:80"]}, b: {image: x, ports: ["80:80"]}}
        """,
    "keys without a value": "services: {a: {image: x, ports: }}",
    "an env file that isn't there": "services: {a: {image: x, env_file: nothing.env}}",
    "a mapping over a list": "services: {a: {image: x, ports: {80: 80}}}",
}
GOLDEN = Path(__file__).with_name("corpus_golden.json")


def write(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    path = folder / "compose.yaml"
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("case", CASES)
def test_config_is_composes(case: str, tmp_path: Path) -> None:
    """Against what Docker Compose 2.40 said; against itself where it is here."""
    path = write(tmp_path, CASES[case])
    environment = {"HOME": "/root", "PATH": os.environ["PATH"]}
    code, text, _ = ours(["-f", str(path), "config", "--format", "json"], environment, path.parent)
    expected = json.loads(GOLDEN.read_text())[case]
    document = json.loads(text.replace(str(path.parent), "/CASE")) if not code else None
    assert document == expected
    compose = find_compose()
    if compose is not None and os.environ.get("HOME") == "/root":
        assert compare(compose, path) == ("equal" if expected is not None else "both refuse")


def test_a_corpus_comes_out_equal() -> None:
    folder, compose = os.environ.get("PYCOMPOSE_CORPUS"), find_compose()
    if not folder or compose is None:
        pytest.skip("needs PYCOMPOSE_CORPUS and Docker Compose (PEER_ROOT)")
    results = run(compose, Path(folder))
    agreed = len(results.get("equal", [])) + len(results.get("both refuse", []))
    total = sum(map(len, results.values()))
    assert agreed >= 0.95 * total, report(results)
