import json
import os
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.containers.model import (
    Attachment,
    ContainerConfig,
    EndpointSettings,
    HealthCheck,
    HealthResult,
    HealthState,
    HostConfig,
    LogConfig,
    MountPoint,
    MountRequest,
    PublishedPort,
    Record,
    RestartPolicy,
    State,
    Status,
    Ulimit,
)
from engine.containers.store import READY, Store, from_json
from engine.networks.model import Endpoint, PortBinding
from engine.records import encode

FULL = Record(
    id="ab" * 32,
    name="web",
    created=123,
    config=ContainerConfig(
        image="x", env=("A=1",), cmd=("a", "b"), entrypoint=None, labels={"k": "v"},
        healthcheck=HealthCheck(("CMD", "x"), 5), stop_timeout=3, exposed_ports=("80/tcp",),
    ),
    host=HostConfig(
        binds=("/a:/b",), mounts=(MountRequest("tmpfs", "/x", tmpfs_options=(("exec",),)),),
        port_bindings={"80/tcp": (PublishedPort("", "80"),)}, ulimits=(Ulimit("nofile", 1, 2),),
        restart_policy=RestartPolicy("always"), log_config=LogConfig("local", {"max-size": "1m"}),
        console_size=(3, 4), init=True, blkio_device_read_bps=({"Path": "/dev/x", "Rate": 5},),
    ),
    image_id="sha256:0",
    path="a",
    args=("b",),
    mounts=(MountPoint("volume", "/v", name="n", anonymous=True),),
    attachments=(
        Attachment(
            "net", EndpointSettings(aliases=("x",)), "id",
            Endpoint("e", "id", "net", "c", "web", ipv4_address="1.2.3.4", links={"a": "b"}),
        ),
    ),
    ports=(PortBinding(80, "tcp", "0.0.0.0", 8080),),
    state=State(
        Status.RUNNING, pid=5, started_at=9,
        health=HealthState("healthy", 0, (HealthResult(1, 2, 0, "ok"),)),
    ),
    restart_count=2,
    boot_id="boot",
)  # fmt: skip


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ())
    store.commit(FULL)
    store.save_state(FULL)
    assert store.load() == ([FULL], [])
    moved = replace(FULL, state=State(Status.EXITED, exit_code=3), ports=())
    store.save_state(moved)
    store.sync_state(FULL.id)
    assert store.load() == ([moved], [])


def test_only_the_owner_can_read_what_may_hold_passwords(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.begin(FULL.id, ())
    store.commit(FULL)
    store.save_state(FULL)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("config.json", "state.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """{path: (mode, size of a file)}"""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.is_file() and path.stat().st_size)
        for path in sorted(folder.rglob("*"))
    }


def test_a_folder_that_waited_is_as_one_that_is_made(tmp_path: Path) -> None:
    root = tmp_path / "containers"
    root.mkdir()
    store = Store(root)
    made = tree(store.begin("a", ["vol"]))
    (tmp_path / f"{READY}.new").mkdir()  # of a daemon that was killed
    store.prepare()
    store.prepare()
    assert store.load()[1] == [("a", ("vol",))]
    assert tree(store.begin("b", ["vol"])) == made
    assert [made[name][1] for name in ("hostname", "hosts", "resolv.conf")] == [0, 0, 0]
    assert tree(store.begin("c", ["vol"])) == made
    store.prepare()
    store.close()
    store.prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["containers"]


def test_a_folder_without_config_was_never_a_container(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ["v1", "v2"])
    assert store.load() == ([], [(FULL.id, ("v1", "v2"))])
    store.commit(FULL)
    store.forget(FULL.id)
    # Its volumes may hold data by now: a removal that stops here must not take them along.
    assert store.load() == ([], [(FULL.id, ())])
    store.clear(FULL.id)
    assert store.load() == ([], [])


def test_a_config_that_the_machine_lost_was_never_a_container(tmp_path: Path) -> None:
    """Its name was on the disk, and what was in it was not yet."""
    store = Store(tmp_path)
    folder = store.begin(FULL.id, ())
    store.commit(FULL, durable=False)
    (folder / "config.json").write_bytes(b"")
    assert store.load() == ([], [(FULL.id, ())])

    # One that was started may have written what somebody wants back.
    store.save_state(FULL)
    assert store.load() == ([], [])
    assert folder.exists()


def test_a_removal_that_a_crash_interrupts_takes_the_volumes_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ())
    store.commit(FULL)
    store.intend(FULL.id, ["vol"])
    assert [record.id for record in store.load()[0]] == [FULL.id]
    assert store.intended(FULL.id) == ("vol",)
    store.forget(FULL.id)
    assert store.load() == ([], [(FULL.id, ("vol",))])


def test_a_removal_without_volumes_takes_back_an_earlier_one_with_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ())
    store.commit(FULL)
    store.intend(FULL.id, ["vol"])
    store.intend(FULL.id, [])
    store.forget(FULL.id)
    assert store.load() == ([], [(FULL.id, ())])


def test_a_lost_state_is_that_of_an_ended_container(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ())
    store.commit(FULL)
    ((fresh,), _) = store.load()
    assert fresh.state == State()
    assert fresh.attachments[0].endpoint is None
    path = tmp_path / FULL.id / "state.json"
    path.write_text('{"state":{"status":"run')
    ((torn,), _) = store.load()
    assert (torn.state.status, torn.state.exit_code) == (Status.EXITED, 255)
    path.unlink()  # as an earlier version leaves one that was not started yet
    assert store.load()[0] == [fresh]
    store.save_state(FULL)
    assert store.load()[0] == [FULL]


def test_the_last_whole_state_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.begin(FULL.id, ()) / "state.json"
    store.commit(FULL)
    store.save_state(FULL)
    with open(path, "ab") as file:
        file.write(b'\n{"state":{"status":"exi')  # as a kill tears it
    assert store.load() == ([FULL], [])
    ended = replace(FULL, state=State(Status.EXITED, exit_code=3))
    store.save_state(ended)
    store.sync_state(FULL.id)
    assert store.load() == ([ended], [])


def test_states_do_not_fill_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.begin(FULL.id, ()) / "state.json"
    store.commit(FULL)
    output = HealthState("healthy", 0, (HealthResult(1, 2, 0, "x" * 4096),) * 5)
    for exit_code in range(20):
        ended = State(Status.EXITED, exit_code=exit_code, health=output)
        store.save_state(replace(FULL, state=ended))
        assert path.stat().st_size < 128 << 10
        assert store.load()[0][0].state == ended
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_broken_record_does_not_stop_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = replace(FULL, id="cd" * 32)
    for record in (FULL, other):
        store.begin(record.id, ())
        store.commit(record)
    (tmp_path / FULL.id / "config.json").write_text("{")
    records, leftovers = store.load()
    assert [record.id for record in records] == [other.id]
    assert leftovers == []
    assert os.path.exists(tmp_path / FULL.id / "config.json")


def test_a_record_of_another_version_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(FULL.id, ())
    store.commit(FULL)
    path = tmp_path / FULL.id / "config.json"
    document = json.loads(path.read_text())
    document["added_later"] = 1
    del document["config"]["mac_address"]
    path.write_text(json.dumps(document))
    ((record,), _) = store.load()
    assert record.config == FULL.config


texts = st.text(max_size=8)


@settings(deadline=None)
@given(
    st.builds(
        ContainerConfig,
        env=st.lists(texts).map(tuple),
        cmd=st.none() | st.lists(texts).map(tuple),
        labels=st.dictionaries(texts, texts),
        stop_timeout=st.none() | st.integers(-1, 100),
        healthcheck=st.none() | st.builds(HealthCheck, test=st.lists(texts).map(tuple)),
    )
)
def test_what_is_written_is_what_is_read(config: ContainerConfig) -> None:
    assert from_json(ContainerConfig, json.loads(encode(config))) == config
