"""`python -m tests.benchmarks [ROUNDS]`: ours beside a real dockerd and Docker Compose, the same
work in turns; medians and minima, and their ratios. Absolute figures depend on the machine;
ratios hold, those of minima and of CPU time also while something else runs.
`python -m tests.benchmarks images|builds|api [ROUNDS]`: only what is about images of some size,
only builds, only the list of a hundred containers and streams.
`python -m tests.benchmarks scale [PART]...`: how it is with hundreds of containers.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable

from tests.benchmarks import api, builds, images, measures, scale
from tests.benchmarks.engines import Engine, docker, ours

# What the design asks for: how many times as fast as Docker.
GOALS = {
    "create + start": 20, "10 lives at once": 10, "CPU of a life": 15, "exec": 8,
    "publish 50 ports": 50,
    "pull, 200 MB": 1 / 0.8,
    "list of 100 containers": 1, "hijacked, out (MB/s)": 1, "hijacked, in (MB/s)": 1,
    "compose up, 10 services": 3, "compose up again": 5, "compose down": 3,
    "compose up again, cold": 1 / 3,
    "build again, 4 stages": 1 / 0.3, "build again, the call": 1 / 0.3, "build, 4 stages": 1 / 0.8,
}  # fmt: skip

COLD_ROW = ", cold"  # ours without the warm process; theirs as always


def main() -> int:
    if sys.argv[1:2] == ["scale"]:
        return scale.main(sys.argv[2:])
    part = sys.argv[1] if sys.argv[1:2] and sys.argv[1] in PARTS else ""
    asked = sys.argv[2:] if part else sys.argv[1:]
    rounds = int(asked[0]) if asked else 7
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ours() as own, docker() as peer:
        engines = [own] if peer is None else [own, peer]
        if peer is None:
            print("no dockerd here: only our own figures\n")
        for name, measure in PARTS.items():
            if part in ("", name):
                measure(engines, figures, max(2, rounds // 2))
        if part:
            report(figures)
            return 0
        for name, work in works().items():
            for _ in range(rounds):
                for engine in engines:
                    figures[name][engine.name].append(work(engine))
        compose_rounds(engines, figures, max(2, rounds // 2))
        client_rounds(engines, figures, rounds)
        for engine in engines:
            logs = measures.logs(engine)
            figures["log writing (MB/s)"][engine.name].append(logs.writing)
            figures["log reading (MB/s)"][engine.name].append(logs.reading)
            figures["log writing (MB/s of CPU)"][engine.name].append(logs.writing_cpu)
            figures["log reading (MB/s of CPU)"][engine.name].append(logs.reading_cpu)
            memory = measures.memory_per_container(engine)
            figures["memory a container (MB)"][engine.name].append(memory)
    report(figures)
    return 0


def works() -> dict[str, Callable[[Engine], float]]:
    return {
        "create + start": measures.create_start,
        "10 lives at once": measures.ten_lives,
        "CPU of a life": measures.cpu_of_a_life,
        "exec": with_container(measures.exec_true),
        "publish 50 ports": measures.fifty_ports,
    }


def with_container(work: Callable[[Engine, str], float]) -> Callable[[Engine], float]:
    def run(engine: Engine) -> float:
        container = measures.create(engine, measures.SLEEP)
        engine.call("POST", f"/containers/{container}/start")
        taken = work(engine, container)
        measures.remove(engine, container)
        return taken

    return run


def compose_rounds(
    engines: list[Engine], figures: dict[str, dict[str, list[float]]], rounds: int
) -> None:
    for engine in engines:
        if not engine.compose:
            print(f"no Docker Compose 2 here: {engine.name} runs no projects\n")
            continue
        folder = engine.host.folder
        (folder / "compose.yaml").write_text(measures.PROJECT)
        for _ in range(rounds):
            for kind, more in (("", {}), (COLD_ROW, measures.COLD)):
                for name, arguments in (
                    ("compose up, 10 services", ("up", "-d")),
                    ("compose up again", ("up", "-d")),
                    ("compose down", ("down",)),
                ):
                    taken = measures.compose(engine, folder, *arguments, more=more)
                    figures[name + kind][engine.name].append(taken)


def build_rounds(
    engines: list[Engine], figures: dict[str, dict[str, list[float]]], rounds: int
) -> None:
    able = [engine for engine in engines if engine.compose]
    for engine in able:
        builds.prepare(engine)
    for _ in range(rounds):
        for engine in able:
            figures["build again, 4 stages"][engine.name].append(builds.again(engine))
            figures["build again" + COLD_ROW][engine.name].append(builds.again_cold(engine))
            figures["build again, the call"][engine.name].append(builds.by_the_call(engine))
            figures["build, 4 stages"][engine.name].append(builds.cold(engine))
    for engine in able:
        figures["build, 300 MB: peak (MB)"][engine.name].append(builds.peak_memory(engine))


def client_rounds(
    engines: list[Engine], figures: dict[str, dict[str, list[float]]], rounds: int
) -> None:
    """What needs no engine: a cold start, 2,000 lines of YAML, a plan of 10,000 services."""
    for engine in engines:
        if not engine.compose:
            continue
        folder = engine.host.folder / "large"
        folder.mkdir(exist_ok=True)
        (folder / "compose.yaml").write_text(measures.LARGE_PROJECT)
        for _ in range(rounds):
            figures["compose --version"][engine.name].append(measures.version(engine))
            taken = measures.compose(engine, folder, "config")
            figures["compose config, 2,000 lines"][engine.name].append(taken)
    for _ in range(max(2, rounds // 2)):
        figures["plan of 10,000 (CPU)"][engines[0].name].append(measures.large_plan())


PARTS = {"images": images.rounds, "builds": build_rounds, "api": api.rounds}


def report(figures: dict[str, dict[str, list[float]]]) -> None:
    print(f"{'':26}{'------- medians -------':>29}{'------- best -------':>31}")
    columns = "".join(f"{title:>10}" for title in ("pyengine", "dockerd", "ratio"))
    print(f"{'(ms unless said)':26}{columns} {columns}  goal")
    for name, engines in figures.items():
        more_is_better = "MB/s" in name
        best = max if more_is_better else min
        line = f"{name:26}"
        for summary in (statistics.median, best):
            own = summary(engines["pyengine"])
            line += f"{own:10.1f}"
            if engines.get("dockerd"):
                peer = summary(engines["dockerd"])
                line += f"{peer:10.1f}{own / peer if more_is_better else peer / own:9.1f}x "
        line += f"  {GOALS[name]:.2g}x" if name in GOALS and engines.get("dockerd") else ""
        print(line)


if __name__ == "__main__":
    sys.exit(main())
