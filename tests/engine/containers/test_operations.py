import asyncio
import contextlib
import json
import os
import random
import select
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from engine.containers.attach import HEAD_START
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    Device,
    EndpointSettings,
    ExecConfig,
    HealthCheck,
    HostConfig,
    LogConfig,
    LogQuery,
    MountRequest,
    PublishedPort,
    ResourceUpdate,
    RestartPolicy,
    Status,
    Ulimit,
    WaitResult,
)
from engine.containers.spec import cgroup_path
from engine.containers.store import Store
from engine.errors import Conflict, EngineError, Failure, InvalidRequest, NotFound
from engine.networks.model import NetworkSpec
from engine.runtime.cgroup_tree import Cgroup, detect
from engine.runtime.handle import Shim
from tests.engine.containers.conftest import Engine, event

pytestmark = pytest.mark.kernel


async def test_a_container_runs_and_says_how_it_ended(engine: Engine) -> None:
    code, output = await engine.finish("sh", "-c", "echo out; echo err >&2; exit 3")
    assert code == 3
    assert sorted(output.splitlines()) == ["err", "out"]
    (record,) = engine.containers.list()
    state = record.state
    assert (state.status, state.exit_code, state.pid) == (Status.EXITED, 3, 0)
    assert record.created < state.started_at < state.finished_at


async def test_events_tell_the_life_in_docker_s_words(engine: Engine) -> None:
    with engine.events.subscribe(wanted=lambda found: found.type == "container") as told:
        identifier = await engine.run("sleep", "1000", name="web", labels={"tier": "front"})
        await engine.containers.pause("web")
        await engine.containers.unpause("web")
        await engine.containers.rename("web", "www")
        await engine.containers.kill("www")
        await engine.containers.remove("www")
    found = [one async for one in told]
    assert [one.action for one in found] == [
        "create", "start", "pause", "unpause", "rename", "kill", "die", "destroy",
    ]  # fmt: skip
    die = found[6]
    assert die.id == identifier
    assert die.attributes["exitCode"] == "137"
    assert die.attributes["name"] == "www"
    assert die.attributes["tier"] == "front"
    assert found[4].attributes["oldName"] == "/web"
    assert found[5].attributes["signal"] == "9"


async def test_inspect_shows_exited_when_die_is_told(engine: Engine) -> None:
    with engine.events.subscribe() as told:
        identifier = await engine.run("true")
        await event(told, "die")
        assert engine.get(identifier).state.status is Status.EXITED


async def test_command_that_is_missing_or_no_program_fails_as_in_docker(engine: Engine) -> None:
    missing = await engine.create("no-such-program")
    with pytest.raises(InvalidRequest, match="executable file not found in \\$PATH"):
        await engine.containers.start(missing)
    state = engine.get(missing).state
    assert (state.status, state.exit_code) == (Status.CREATED, 127)
    assert "executable file not found" in state.error
    directory = await engine.create("/etc")
    with pytest.raises(InvalidRequest, match="permission denied"):
        await engine.containers.start(directory)
    assert engine.get(directory).state.exit_code == 126


async def test_missing_command_with_auto_remove_leaves_nothing(engine: Engine) -> None:
    identifier = await engine.create("no-such-program", host=HostConfig(auto_remove=True))
    removed = engine.containers.wait(identifier, condition="removed")
    with pytest.raises(InvalidRequest):
        await engine.containers.start(identifier)
    # The client of the start was told why; its wait is for the removal.
    assert await removed == WaitResult(127)
    assert engine.containers.list() == ()


async def test_stop_asks_first_and_kills_after_the_grace_period(engine: Engine) -> None:
    polite = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    identifier = await engine.run("sh", "-c", polite)
    await _printed(engine, identifier, "up")
    assert await engine.containers.stop(identifier)
    assert engine.get(identifier).state.exit_code == 7
    assert await engine.containers.stop(identifier) is False
    stubborn = await engine.run("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    await _printed(engine, stubborn, "up")
    await engine.containers.stop(stubborn, timeout=0)
    assert engine.get(stubborn).state.exit_code == 137


async def test_own_stop_signal_is_used(engine: Engine) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    identifier = await engine.run("sh", "-c", script, stop_signal="SIGUSR1")
    await _printed(engine, identifier, "up")
    await engine.containers.stop(identifier)
    assert engine.get(identifier).state.exit_code == 9


async def _printed(engine: Engine, reference: str, text: str) -> None:
    """Waits until the log holds `text`."""
    gathered = b""
    async for piece in engine.containers.logs(reference, LogQuery(follow=True)):
        gathered += piece
        if text.encode() in gathered:
            return
    raise AssertionError(f"{text!r} is not in {gathered!r}")


async def test_a_log_asked_for_at_once_has_the_first_words(engine: Engine) -> None:
    identifier = await engine.run("sh", "-c", "sleep 0.02; echo first words")
    said = [piece async for piece in engine.containers.logs(identifier, LogQuery())]
    waited = (time.time_ns() - engine.get(identifier).state.started_at) / 1e9
    assert b"first words" in b"".join(said) or waited >= HEAD_START


async def test_paused_container_stands_still_and_still_stops(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    await engine.containers.pause(identifier)
    assert engine.get(identifier).state.status is Status.PAUSED
    with pytest.raises(Conflict, match="is already paused"):
        await engine.containers.pause(identifier)
    await engine.containers.stop(identifier, timeout=0)
    assert engine.get(identifier).state.status is Status.EXITED


async def test_a_kill_with_the_stop_signal_reaches_one_that_is_paused(engine: Engine) -> None:
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    identifier = await engine.run("sh", "-c", script)
    await _printed(engine, identifier, "up")
    ended = engine.containers.wait(identifier, condition="not-running")
    await engine.containers.pause(identifier)
    await engine.containers.kill(identifier, signal="WINCH")
    assert engine.get(identifier).state.status is Status.PAUSED
    await engine.containers.kill(identifier, signal="TERM")
    assert (await ended).status_code == 9


async def test_running_container_is_removed_by_force_only(engine: Engine) -> None:
    await engine.run("sleep", "1000", name="web")
    with pytest.raises(Conflict, match="stop the container before removing or force remove"):
        await engine.containers.remove("web")
    await engine.containers.remove("web", force=True)
    with pytest.raises(NotFound, match="No such container: web"):
        engine.get("web")


async def test_a_name_is_taken_until_its_container_is_gone(engine: Engine) -> None:
    first = await engine.create("true", name="web")
    with pytest.raises(Conflict, match=f'"/web" is already in use by container "{first}"'):
        await engine.create("true", name="web")
    await engine.containers.rename("web", "old")
    second = await engine.create("true", name="web")
    with pytest.raises(Conflict, match="already in use"):
        await engine.containers.rename("old", "web")
    assert engine.get("/web").id == second
    assert engine.get(first[:12]).name == "old"


async def test_what_is_refused_leaves_nothing(engine: Engine) -> None:
    attempts = [
        (HostConfig(memory=1 << 20), InvalidRequest, "Minimum memory limit allowed is 6MB"),
        (HostConfig(cap_add=("FLY",)), InvalidRequest, "unknown capability"),
        (HostConfig(security_opt=("seccomp={",)), InvalidRequest, "seccomp"),
        (HostConfig(devices=(Device("/dev/no", "/dev/no"),)), InvalidRequest, "/dev/no"),
        (
            HostConfig(mounts=(MountRequest("bind", "/x", "/no/such/source"),)),
            InvalidRequest,
            "bind source path does not exist: /no/such/source",
        ),
        (HostConfig(log_config=LogConfig("syslog")), InvalidRequest, "no log driver named"),
    ]
    for host, kind, text in attempts:
        with pytest.raises(kind, match=text):
            await engine.create("true", name="web", host=host)
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        await engine.containers.create(CreateRequest(ContainerConfig(image="nosuch")))
    assert engine.containers.list() == ()
    assert list((engine.folder / "data/containers").iterdir()) == []
    assert await engine.create("true", name="web")


async def test_process_has_what_was_asked_for(engine: Engine) -> None:
    script = (
        "hostname; pwd; id -u; id -G; echo $COLOUR-$PATH; ulimit -n; "
        "cat /proc/self/oom_score_adj; grep CapEff /proc/self/status; "
        "grep NoNewPrivs /proc/self/status; cat /proc/sys/net/ipv4/ip_forward"
    )
    code, output = await engine.finish(
        "sh", "-c", script,
        user="1234:4321", working_dir="/tmp", hostname="box", env=("COLOUR=red", "PATH=/bin"),
        host=HostConfig(
            ulimits=(Ulimit("nofile", 77, 99),), oom_score_adj=123, group_add=("777",),
            security_opt=("no-new-privileges",), sysctls={"net.ipv4.ip_forward": "0"},
        ),
    )  # fmt: skip
    assert code == 0
    assert output.splitlines() == [
        "box", "/tmp", "1234", "4321 777", "red-/bin", "77", "123",
        "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "0",
    ]  # fmt: skip


async def test_mounts_are_where_and_how_they_were_asked_for(engine: Engine) -> None:
    source = engine.folder / "source"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    host = HostConfig(
        binds=(f"{source}:/mnt/bound:ro", "named:/mnt/named", f"{engine.folder}/made:/mnt/made"),
        mounts=(MountRequest("tmpfs", "/mnt/fast", tmpfs_size=1 << 20, tmpfs_mode=0o700),),
        tmpfs={"/mnt/scratch": "exec"},
        readonly_rootfs=True,
    )
    script = (
        "cat /mnt/bound/file; echo no 2>/dev/null >/mnt/bound/new || echo read-only; "
        "echo kept >/mnt/named/kept; echo no 2>/dev/null >/etc/new || echo read-only root; "
        "stat -f -c %T /mnt/fast; stat -c %a /mnt/fast; stat -f -c %T /mnt/scratch; ls -d /mnt/made"
    )
    code, output = await engine.finish("sh", "-c", script, host=host)
    assert (code, output.splitlines()) == (0, [
        "from the host", "read-only", "read-only root", "tmpfs", "700", "tmpfs", "/mnt/made",
    ])  # fmt: skip
    volume = engine.volumes.get("named")
    assert (engine.folder / "made").is_dir()
    with open(f"{volume.mountpoint}/kept") as kept:
        assert kept.read() == "kept\n"
    (record,) = engine.containers.list()
    assert engine.containers.volume_users("named") == (record.id,)


async def test_anonymous_volumes_go_with_v_or_auto_remove_only(engine: Engine) -> None:
    kept = await engine.create("true", volumes=("/data",))
    name = engine.get(kept).mounts[0].name
    assert len(name) == 64
    await engine.containers.remove(kept)
    assert engine.volumes.get(name).is_anonymous
    await engine.volumes.remove(name, users=lambda _: ())
    gone = await engine.create("true", volumes=("/data",))
    name = engine.get(gone).mounts[0].name
    await engine.containers.remove(gone, volumes=True)
    with pytest.raises(NotFound):
        engine.volumes.get(name)
    alone = await engine.create("true", volumes=("/data",), host=HostConfig(auto_remove=True))
    removed = engine.containers.wait(alone, condition="removed")
    await engine.containers.start(alone)
    await removed
    assert engine.volumes.list() == ()


async def test_anonymous_volumes_of_another_container_go_with_the_last_that_has_them(
    engine: Engine,
) -> None:
    first = await engine.create("true", volumes=("/data",))
    name = engine.get(first).mounts[0].name
    second = await engine.create("true", host=HostConfig(volumes_from=(first,)))
    third = await engine.create("true", host=HostConfig(volumes_from=(second,)))
    await engine.containers.remove(second, volumes=True)
    await engine.containers.remove(first)
    assert engine.volumes.get(name).is_anonymous
    await engine.containers.remove(third, volumes=True)
    with pytest.raises(NotFound):
        engine.volumes.get(name)


async def test_volume_with_the_image_s_content_is_filled_on_first_use(engine: Engine) -> None:
    host = HostConfig(binds=("conf:/etc/default",))
    await engine.create("true", host=host)
    mountpoint = engine.volumes.get("conf").mountpoint
    copied = set(os.listdir(mountpoint))
    assert copied
    # What is secret of the host is not in the image.
    assert copied <= set(os.listdir("/etc/default"))


async def test_auto_removed_container_answers_its_exit_code(engine: Engine) -> None:
    identifier = await engine.create("sh", "-c", "exit 4", host=HostConfig(auto_remove=True))
    removed = engine.containers.wait(identifier, condition="removed")
    await engine.containers.start(identifier)
    assert (await removed).status_code == 4
    assert engine.containers.list() == ()


async def test_restart_policy_starts_again_with_growing_delays(engine: Engine) -> None:
    host = HostConfig(restart_policy=RestartPolicy("on-failure", 2))
    with engine.events.subscribe() as told:
        identifier = await engine.create("sh", "-c", "echo run; exit 1", host=host)
        ended = engine.containers.wait(identifier)
        before = engine.containers.wait(identifier, condition="not-running")
        await engine.containers.start(identifier)
        assert (await ended).status_code == 0  # it was not running
        assert (await before).status_code == 0
        dies = [(await event(told, "die")).time for _ in range(3)]
    record = engine.get(identifier)
    assert record.restart_count == 2
    assert record.state.status is Status.EXITED
    assert await engine.output(identifier) == "run\n" * 3
    first, second = dies[1] - dies[0], dies[2] - dies[1]
    assert first >= 100_000_000
    assert second >= 200_000_000


async def test_a_wait_is_over_when_it_ends_once_also_if_it_will_be_restarted(
    engine: Engine,
) -> None:
    host = HostConfig(restart_policy=RestartPolicy("always"))
    identifier = await engine.run("sh", "-c", "read x; exit 3", host=host)
    assert (await engine.containers.wait(identifier)).status_code == 3


async def test_stop_ends_a_restarting_container_for_good(engine: Engine) -> None:
    host = HostConfig(restart_policy=RestartPolicy("always"))
    with engine.events.subscribe() as told:
        identifier = await engine.run("false", host=host)
        for _ in range(3):
            await event(told, "die")
        # The delay is at least 0.4 s now.
        assert engine.get(identifier).state.status is Status.RESTARTING
        ended = engine.containers.wait(identifier)
        assert await engine.containers.stop(identifier)
        assert (await ended).status_code == 1
        await event(told, "stop")
    assert engine.get(identifier).state.status is Status.EXITED
    await engine.containers.remove(identifier)


async def test_kill_by_hand_is_not_restarted(engine: Engine) -> None:
    identifier = await engine.run(
        "sleep", "1000", host=HostConfig(restart_policy=RestartPolicy("always"))
    )
    await engine.containers.kill(identifier)
    assert engine.get(identifier).state.status is Status.EXITED


async def test_killed_from_outside_is_restarted(engine: Engine) -> None:
    host = HostConfig(restart_policy=RestartPolicy("unless-stopped"))
    with engine.events.subscribe() as told:
        identifier = await engine.run("sleep", "1000", host=host)
        await event(told, "start")
        first = engine.get(identifier).state.pid
        os.kill(first, signal.SIGKILL)
        await event(told, "start")
    state = engine.get(identifier).state
    assert state.status is Status.RUNNING
    assert state.pid != first


async def test_restart_by_hand_runs_it_anew(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000", host=HostConfig(auto_remove=True))
    first = engine.get(identifier).state
    await engine.containers.restart(identifier, timeout=0)
    second = engine.get(identifier).state
    assert second.status is Status.RUNNING
    assert second.started_at > first.started_at


async def test_a_removal_by_force_ends_a_restart_that_has_begun(engine: Engine) -> None:
    with engine.events.subscribe() as told:
        identifier = await engine.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
        restart = asyncio.create_task(engine.containers.restart(identifier, timeout=100))
        await event(told, "kill")
        await engine.containers.remove(identifier, force=True)
        with pytest.raises((Conflict, NotFound)):
            await restart
    assert engine.containers.list() == ()


async def test_a_removal_by_force_ends_a_start_that_has_begun(engine: Engine) -> None:
    identifier = await engine.create("sleep", "1000")
    start = asyncio.create_task(engine.containers.start(identifier))
    while not engine.containers._find(identifier).lock.locked():
        await asyncio.sleep(0)
    await engine.containers.remove(identifier, force=True)
    await start
    assert engine.containers.list() == ()


async def test_more_memory_than_allowed_is_seen(engine: Engine) -> None:
    host = HostConfig(memory=32 << 20)
    with engine.events.subscribe() as told:
        script = "a='x' * (200 << 20); print(len(a))"
        identifier = await engine.run("python3", "-c", script, host=host)
        await event(told, "oom")
        await event(told, "die")
    state = engine.get(identifier).state
    assert state.oom_killed
    assert state.exit_code == 137


async def test_a_child_that_runs_out_of_memory_is_seen_while_the_container_goes_on(
    engine: Engine,
) -> None:
    host = HostConfig(memory=64 << 20, memory_swap=64 << 20)
    with engine.events.subscribe() as told:
        script = "python3 -c 'x = bytearray(200 << 20)'; read line"
        identifier = await engine.run("sh", "-c", script, host=host, open_stdin=True)
        await event(told, "oom")
    state = engine.get(identifier).state
    assert state.oom_killed
    assert state.status is Status.RUNNING
    await engine.containers.stop(identifier, timeout=0)
    assert engine.get(identifier).state.oom_killed
    await engine.containers.start(identifier)
    assert not engine.get(identifier).state.oom_killed


async def test_update_changes_limits_of_the_running(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000", host=HostConfig(memory=64 << 20))
    await engine.containers.update(
        identifier, ResourceUpdate(memory=32 << 20, memory_swap=64 << 20, pids_limit=50)
    )
    async for sample in engine.containers.stats(identifier, stream=False, one_shot=True):
        assert sample.previous is None
        counters = sample.current.counters
        assert counters is not None
        assert counters.memory_limit == 32 << 20
        assert counters.pids_limit == 50
        assert "eth0" in sample.current.networks
    assert engine.get(identifier).host.memory == 32 << 20


async def test_wait_counts_from_the_call_on(engine: Engine) -> None:
    identifier = await engine.create("sh", "-c", "exit 5")
    assert (await engine.containers.wait(identifier)).status_code == 0
    following = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await following).status_code == 5
    with pytest.raises(InvalidRequest, match='invalid condition: "bogus"'):
        engine.containers.wait(identifier, condition="bogus")


async def test_changes_say_what_differs_from_the_image(engine: Engine) -> None:
    script = "echo new >/opt/new; rm /etc/hostname.not 2>/dev/null; echo more >>/etc/issue"
    await engine.finish("sh", "-c", script)
    (record,) = engine.containers.list()
    found = {change.path: change.kind for change in await engine.containers.changes(record.id)}
    assert found["/opt/new"] == 1
    assert found["/opt"] == 0
    assert found["/etc/issue"] == 0
    assert await engine.containers.writable_size(record.id) > 0


async def test_top_shows_the_processes_inside(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    shown = await engine.containers.top(identifier)
    assert shown.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
    assert [row[-1] for row in shown.processes] == ["sleep 1000"]
    shown = await engine.containers.top(identifier, "-o pid,comm")
    assert shown.processes == ((str(engine.get(identifier).state.pid), "sleep"),)


async def test_prune_takes_the_stopped_only(engine: Engine) -> None:
    running = await engine.run("sleep", "1000")
    created = await engine.create("true")
    pruned = await engine.containers.prune(lambda record: True)
    assert pruned.deleted == (created,)
    assert [record.id for record in engine.containers.list()] == [running]


# --- networks ---------------------------------------------------------------------------------


async def test_published_port_reaches_the_container(engine: Engine) -> None:
    script = (
        "import socket; s = socket.create_server(('', 80)); print('up', flush=True);"
        "c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    host = HostConfig(port_bindings={"80/tcp": (PublishedPort("127.0.0.1", ""),)})
    identifier = await engine.run("python3", "-c", script, host=host)
    await _printed(engine, identifier, "up")
    (binding,) = engine.get(identifier).ports
    reader, writer = await asyncio.open_connection("127.0.0.1", binding.host_port)
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()


async def test_taken_port_is_refused_before_anything_starts(engine: Engine) -> None:
    host = HostConfig(port_bindings={"80/tcp": (PublishedPort("", "8080"),)})
    first = await engine.run("sleep", "1000", host=host)
    second = await engine.create("sleep", "1000", host=host)
    with pytest.raises(EngineError, match="port is already allocated"):
        await engine.containers.start(second)
    record = engine.get(second)
    assert record.state.status is Status.CREATED
    assert record.state.exit_code == 128
    assert record.ports == ()
    assert all(attachment.endpoint is None for attachment in record.attachments)
    await engine.containers.remove(first, force=True)
    assert await engine.containers.start(second)


async def test_containers_of_a_network_find_each_other_by_name(engine: Engine) -> None:
    await engine.networks.create(NetworkSpec("back"))
    wanted = CreateRequest(
        ContainerConfig(image="rootfs:/", cmd=("sleep", "1000")),
        HostConfig(network_mode="back"),
        {"back": EndpointSettings(aliases=("db",))},
        name="store",
    )
    store = (await engine.containers.create(wanted)).id
    await engine.containers.start(store)
    code, output = await engine.finish(
        "getent", "hosts", "db", host=HostConfig(network_mode="back")
    )
    attachment = engine.get(store).attachments[0]
    assert attachment.endpoint is not None
    assert code == 0, output
    assert output.split()[0] == attachment.endpoint.ipv4_address
    assert {"store", "db"} <= set(attachment.dns_names)


async def test_networks_come_and_go_while_it_runs(engine: Engine) -> None:
    network = await engine.networks.create(NetworkSpec("extra"))
    identifier = await engine.run("sleep", "1000")
    await engine.containers.connect("extra", identifier, EndpointSettings())
    assert [one.network for one in engine.get(identifier).attachments] == ["bridge", "extra"]
    assert engine.containers.network_users(network.id)[0].id == identifier
    with pytest.raises(EngineError, match="already exists in network extra"):
        await engine.containers.connect("extra", identifier, EndpointSettings())
    await engine.containers.disconnect("extra", identifier)
    with pytest.raises(Failure, match="is not connected to network extra"):
        await engine.containers.disconnect("extra", identifier)
    await engine.containers.connect("extra", identifier, EndpointSettings())
    await engine.containers.restart(identifier, timeout=0)
    assert all(one.endpoint is not None for one in engine.get(identifier).attachments)


@pytest.mark.parametrize("mode", ["", "bridge", "none"])
async def test_networks_that_are_named_are_all_there_are(engine: Engine, mode: str) -> None:
    """Clients in Go name the networks and leave the mode out."""
    await engine.networks.create(NetworkSpec("extra"))
    config = ContainerConfig(image="rootfs:/", cmd=("true",))
    wanted = CreateRequest(
        config, HostConfig(network_mode=mode or "default"), {"extra": EndpointSettings()}
    )
    created = await engine.containers.create(wanted)
    assert [one.network for one in engine.get(created.id).attachments] == ["extra"]
    with pytest.raises(InvalidRequest, match="cannot connect container to host network"):
        await engine.containers.create(replace(wanted, endpoints={"host": EndpointSettings()}))
    beside = {"none": EndpointSettings(), "extra": EndpointSettings()}
    with pytest.raises(InvalidRequest, match=r"multiple networks .* private \(none\) mode"):
        await engine.containers.create(replace(wanted, endpoints=beside))


async def test_namespaces_of_the_host_are_shared_on_wish(engine: Engine) -> None:
    script = (
        "for kind in ipc uts pid net; do readlink /proc/self/ns/$kind; done; stat -c %d /dev/shm"
    )
    host = HostConfig(ipc_mode="host", uts_mode="host", pid_mode="host", network_mode="host")
    code, output = await engine.finish("sh", "-c", script, host=host)
    expected = [
        os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("ipc", "uts", "pid", "net")
    ]
    assert (code, output.splitlines()) == (0, [*expected, str(os.stat("/dev/shm").st_dev)])
    first = await engine.run("sleep", "1000")
    _, output = await engine.finish(
        "readlink", "/proc/self/ns/pid", host=HostConfig(pid_mode=f"container:{first}")
    )
    assert output.strip() == os.readlink(f"/proc/{engine.get(first).state.pid}/ns/pid")


async def test_unknown_network_is_refused_at_start(engine: Engine) -> None:
    identifier = await engine.create("true", host=HostConfig(network_mode="nonet"))
    with pytest.raises(
        NotFound, match="failed to set up container networking: network nonet not found"
    ):
        await engine.containers.start(identifier)


async def test_network_of_another_container_is_shared(engine: Engine) -> None:
    first = await engine.run("sleep", "1000", hostname="shared")
    _, output = await engine.finish(
        "sh", "-c", "readlink /proc/self/ns/net; cat /etc/hostname",
        host=HostConfig(network_mode=f"container:{first}"),
    )  # fmt: skip
    pid = engine.get(first).state.pid
    assert output.splitlines() == [os.readlink(f"/proc/{pid}/ns/net"), "shared"]
    _, output = await engine.finish("ls", "/sys/class/net", host=HostConfig(network_mode="none"))
    assert output.split() == ["lo"]
    _, output = await engine.finish(
        "readlink", "/proc/self/ns/net", host=HostConfig(network_mode="host")
    )
    assert output.strip() == os.readlink("/proc/thread-self/ns/net")


# --- attach and exec --------------------------------------------------------------------------


async def test_who_attaches_before_the_start_gets_everything(engine: Engine) -> None:
    identifier = await engine.create(
        "sh", "-c", "echo ready; cat; exit 6", open_stdin=True, stdin_once=True
    )
    clients = [
        await engine.containers.attach(identifier, stdin=first, stdout=True, stderr=True)
        for first in (True, False)
    ]
    await clients[0].write(b"")
    await engine.containers.start(identifier)
    await clients[0].write(b"typed\n")
    await clients[0].write_eof()
    for client in clients:
        assert _text([piece async for piece in client]) == b"ready\ntyped\n"
        # The exit is known when the output ends.
        assert engine.get(identifier).state.exit_code == 6


def _text(pieces: list[bytes]) -> bytes:
    text, rest = b"", b"".join(pieces)
    while rest:
        length = int.from_bytes(rest[4:8], "big")
        text, rest = text + rest[8 : 8 + length], rest[8 + length :]
    return text


async def test_terminal_is_left_with_the_detach_keys(engine: Engine) -> None:
    with engine.events.subscribe() as told:
        identifier = await engine.create("cat", tty=True, open_stdin=True)
        with pytest.raises(Conflict, match="is not running"):
            await engine.containers.resize(identifier, height=11, width=22)
        await engine.containers.start(identifier)
        await engine.containers.resize(identifier, height=11, width=22)
        client = await engine.containers.attach(identifier, stdin=True, stdout=True, stderr=True)
        await client.write(b"abc\n")
        gathered = b""
        async for piece in client:
            gathered += piece
            if gathered.count(b"abc") == 2:  # the echo, and cat's own
                break
        await client.write(b"\x10\x11")
        await event(told, "detach")
    assert engine.get(identifier).state.status is Status.RUNNING


async def test_client_that_leaves_before_the_start_is_forgotten(engine: Engine) -> None:
    identifier = await engine.create("echo", "hello")
    client = await engine.containers.attach(identifier, stdin=False, stdout=True, stderr=True)
    await client.close()
    assert [piece async for piece in client] == []
    await engine.containers.start(identifier)


async def test_exec_runs_beside_and_its_code_is_there_before_the_end(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000", env=("COLOUR=red",))
    made = await engine.containers.exec_create(
        identifier,
        ExecConfig(
            ("sh", "-c", "echo $COLOUR-$TASTE; cat; exit 8"),
            attach_stdin=True,
            attach_stdout=True,
            attach_stderr=True,
            env=("TASTE=sour",),
        ),
    )
    assert made.exit_code is None
    streams = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert streams is not None
    assert engine.get(identifier).exec_ids == (made.id,)
    await streams.write(b"in\n")
    await streams.write_eof()
    assert _text([piece async for piece in streams]) == b"red-sour\nin\n"
    assert engine.containers.exec_inspect(made.id).exit_code == 8
    assert engine.get(identifier).exec_ids == ()
    again = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert again is not None
    assert b"has already run" in b"".join([piece async for piece in again])


@pytest.mark.parametrize("tty", [False, True])
async def test_user_may_open_its_own_output_by_name(engine: Engine, tty: bool) -> None:
    script = "echo one > /dev/stdout && echo two > /dev/stderr"
    code, said = await engine.finish("sh", "-c", script, user="1234")
    assert (code, sorted(said.split())) == (0, ["one", "two"])
    identifier = await engine.run("sleep", "1000", user="1234")
    wish = ExecConfig(("sh", "-c", script), attach_stdout=True, attach_stderr=True, tty=tty)
    made = await engine.containers.exec_create(identifier, wish)
    streams = await engine.containers.exec_start(made.id, detach=False, tty=tty)
    assert streams is not None
    text = b"".join([piece async for piece in streams])
    assert b"one" in text
    assert b"two" in text


async def test_exec_that_cannot_start_says_so_in_its_stream(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    wish = ExecConfig(("no-such-program",), attach_stdout=True)
    made = await engine.containers.exec_create(identifier, wish)
    streams = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert streams is not None
    text = b"".join([piece async for piece in streams])
    assert b"executable file not found in $PATH" in text
    assert engine.containers.exec_inspect(made.id).exit_code == 127
    made = await engine.containers.exec_create(identifier, wish)
    with pytest.raises(InvalidRequest, match="executable file not found"):
        await engine.containers.exec_start(made.id, detach=True, tty=False)
    for user in ("nosuch", "0:nosuch", "4294967295"):
        with pytest.raises(InvalidRequest, match=r"unable to find|uids and gids must be"):
            await engine.containers.exec_create(identifier, replace(wish, user=user))


async def test_execs_end_with_their_container(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    made = await engine.containers.exec_create(
        identifier, ExecConfig(("sleep", "1000"), attach_stdout=True)
    )
    streams = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert streams is not None
    await engine.containers.kill(identifier)
    assert [piece async for piece in streams] == []
    assert engine.containers.exec_inspect(made.id).exit_code == 137
    with pytest.raises(Conflict, match="is not running"):
        await engine.containers.exec_create(identifier, ExecConfig(("true",)))


# --- health -----------------------------------------------------------------------------------


async def test_health_follows_the_probes(engine: Engine) -> None:
    check = HealthCheck(("CMD-SHELL", "echo looked; test -e /tmp/well"), 20_000_000, retries=2)
    with engine.events.subscribe() as told:
        identifier = await engine.run("sleep", "1000", healthcheck=check)
        assert engine.get(identifier).state.health is not None
        await event(told, "health_status: unhealthy")
        health = engine.get(identifier).state.health
        assert health is not None
        assert health.failing_streak >= 2
        assert health.log[-1].output == "looked\n"
        assert health.log[-1].exit_code == 1
        made = await engine.containers.exec_create(identifier, ExecConfig(("touch", "/tmp/well")))
        await engine.containers.exec_start(made.id, detach=True, tty=False)
        await event(told, "health_status: healthy")
    health = engine.get(identifier).state.health
    assert health is not None
    assert health.status == "healthy"
    assert len(health.log) <= 5
    await engine.containers.restart(identifier, timeout=0)
    state = engine.get(identifier).state
    assert state.health is not None
    assert state.health.log[0].start < state.started_at  # what was the matter can still be read


async def test_probe_that_takes_too_long_is_killed(engine: Engine) -> None:
    check = HealthCheck(("CMD", "sleep", "777"), 20_000_000, 50_000_000, retries=1)
    with engine.events.subscribe() as told:
        identifier = await engine.run("sleep", "1000", healthcheck=check)
        await event(told, "health_status: unhealthy")
    health = engine.get(identifier).state.health
    assert health is not None
    assert health.log[0].exit_code == -1
    assert health.log[0].output == "Health check exceeded timeout (50ms)"


# --- a new daemon -----------------------------------------------------------------------------


async def test_containers_outlive_the_daemon(engine: Engine) -> None:
    host = HostConfig(port_bindings={"80/tcp": (PublishedPort("127.0.0.1", "8081"),)})
    serve = (
        "import socket; s = socket.create_server(('', 80)); print('up', flush=True)\n"
        "while True: c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    running = await engine.run("python3", "-c", serve, host=host, name="on")
    await _printed(engine, running, "up")
    paused = await engine.run("sleep", "1000", name="still")
    await engine.containers.pause(paused)
    before = engine.get(running)
    await engine.stop()
    await engine.open()
    after = engine.get("on")
    assert after.state == before.state
    assert after.ports == before.ports
    assert after.attachments == before.attachments
    assert engine.get("still").state.status is Status.PAUSED
    assert await engine.output("on") == "up\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", 8081)
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    await engine.containers.stop("on", timeout=0)
    assert engine.get("on").state.exit_code == 137


async def test_a_step_of_the_clock_ends_no_start_period(engine: Engine) -> None:
    """isolation 86. What a clock that was set forward makes of the record, made in the record."""
    hour = 3600 * 10**9
    check = HealthCheck(
        ("CMD", "false"), interval=10**7, start_period=hour, start_interval=10**7, retries=1
    )
    identifier = await engine.run("sleep", "1000", healthcheck=check)
    await engine.stop()
    record = engine.get(identifier)
    earlier = replace(record.state, started_at=record.state.started_at - 2 * hour)
    Store(engine.folder / "data/containers").save_state(replace(record, state=earlier))
    await engine.open()
    begun = time.time_ns()
    async with asyncio.timeout(100):
        while not (health := engine.get(identifier).state.health) or not any(
            result.start > begun for result in health.log
        ):
            await asyncio.sleep(0.01)
    assert (health.status, health.failing_streak) == ("starting", 0)


async def test_exit_without_a_daemon_is_learned_with_its_code_and_time(engine: Engine) -> None:
    pipe = engine.folder / "pipe/go"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    identifier = await engine.run(
        "sh",
        "-c",
        "read line </tmp/go; echo last; exit 9",
        host=HostConfig(binds=(f"{pipe.parent}:/tmp",)),
    )
    shim = engine.containers._known.containers[identifier].shim
    assert shim is not None
    await engine.stop()
    asked = time.time_ns()
    descriptor = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    os.write(descriptor, b"go\n")
    os.close(descriptor)
    await asyncio.to_thread(_await_end, shim.shim_pid)
    ended = time.time_ns()
    await engine.open()
    state = engine.get(identifier).state
    assert (state.status, state.exit_code) == (Status.EXITED, 9)
    assert asked <= state.finished_at <= ended
    assert (await engine.output(identifier)).endswith("last\n")


def _await_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll()
    os.close(descriptor)


async def test_policies_are_caught_up_by_the_next_daemon(engine: Engine) -> None:
    again = HostConfig(restart_policy=RestartPolicy("unless-stopped"))
    restarted = await engine.run("sleep", "1000", host=again, name="restarted")
    stopped = await engine.run("sleep", "1000", host=again, name="stopped")
    once = await engine.run("sleep", "1000", name="once")
    gone = await engine.run("sleep", "1000", host=HostConfig(auto_remove=True), name="gone")
    await engine.containers.stop(stopped, timeout=0)
    pids = [engine.get(one).state.pid for one in (restarted, once, gone)]
    await engine.stop()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(_await_end, pid)
    await engine.open()
    with engine.events.subscribe(since=1) as told:
        await event(told, "destroy")
    with engine.events.subscribe(since=1) as told:
        await event(told, "start")
    assert engine.get(restarted).state.status is Status.RUNNING
    assert engine.get(stopped).state.status is Status.EXITED
    assert engine.get(once).state.exit_code == 137
    with pytest.raises(NotFound):
        engine.get(gone)


async def test_after_a_reboot_what_ran_has_ended_and_policies_hold(engine: Engine) -> None:
    again = HostConfig(restart_policy=RestartPolicy("always"))
    back = await engine.run("sleep", "1000", host=again)
    down = await engine.run("sleep", "1000")
    await reboot(engine, back, down)
    state = engine.get(down).state
    assert (state.status, state.exit_code) == (Status.EXITED, 255)
    with engine.events.subscribe(since=1) as told:
        await event(told, "start")
    assert engine.get(back).state.status is Status.RUNNING


async def test_after_a_reboot_what_is_needed_starts_first(engine: Engine) -> None:
    again = HostConfig(restart_policy=RestartPolicy("always"))
    check = HealthCheck(("CMD", "test", "-e", "/tmp/up"), interval=10**8, start_interval=10**8)
    of = {"com.docker.compose.project": "shop"}
    needs = {**of, "com.docker.compose.depends_on": "db:service_healthy:false,job::,no:x"}
    ran = [
        await engine.run("sh", "-c", "exec sleep 1000", host=again, labels=needs),
        await engine.run(
            "sh", "-c", "rm -f /tmp/up; sleep 0.3; touch /tmp/up; exec sleep 1000", host=again,
            labels={**of, "com.docker.compose.service": "db"}, healthcheck=check,
        ),
    ]  # fmt: skip
    await reboot(engine, *ran)
    web, db = (engine.get(each).id for each in ran)
    seen: list[tuple[str, str]] = []
    with engine.events.subscribe(since=1) as told:
        async for found in told:
            if found.action in ("start", "health_status: healthy"):
                seen.append((found.id, found.action))
            if seen[-1:] == [(web, "start")]:
                break
    assert seen == [(db, "start"), (db, "health_status: healthy"), (web, "start")]


async def reboot(engine: Engine, *ran: str) -> None:
    """As if the machine had: processes, cgroups and /run are gone."""
    records = [engine.get(one) for one in ran]
    shims = [engine.containers._known.containers[record.id].shim for record in records]
    await engine.stop()
    for record, shim in zip(records, shims, strict=True):
        assert shim is not None
        for pid in (shim.shim_pid, record.state.pid):
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(_await_end, pid)
        await asyncio.to_thread(Cgroup(detect(), cgroup_path(record)).remove)
        # /run is empty after a boot.
        shutil.rmtree(engine.folder / "exec/containers" / record.id)
    await engine.open()


async def test_what_a_crash_left_of_create_and_remove_is_cleared(engine: Engine) -> None:
    root = engine.folder / "data/containers"
    kept = await engine.create("true", volumes=("/data",), name="kept")
    halfway = await engine.create("true", volumes=("/data",), name="halfway")
    volume = engine.get(halfway).mounts[0].name
    removing = await engine.create("true", name="removing")
    await engine.stop()
    # As if killed before config.json was written, and in the middle of a removal.
    (root / halfway / "config.json").unlink()
    (root / halfway / "intent.json").write_text(json.dumps([volume]))
    state = {"state": {"status": "removing"}}
    (root / removing / "state.json").write_text(json.dumps(state))
    await engine.open()
    assert [record.id for record in engine.containers.list()] == [kept]
    with pytest.raises(NotFound):
        engine.volumes.get(volume)
    async with asyncio.timeout(100):  # files go after what they belonged to
        while [path.name for path in root.iterdir()] != [kept]:
            await asyncio.sleep(0.01)


async def test_killed_shim_costs_its_own_container_only(engine: Engine) -> None:
    first = await engine.run("sleep", "1000")
    second = await engine.run("sleep", "1000")
    shim = engine.containers._known.containers[first].shim
    assert isinstance(shim, Shim)
    ended = engine.containers.wait(first)
    os.kill(shim.shim_pid, signal.SIGKILL)
    assert (await ended).status_code == 137
    assert engine.get(second).state.status is Status.RUNNING
    await engine.containers.remove(first)


# --- all at once ------------------------------------------------------------------------------


async def test_many_clients_at_once_only_ever_hear_refusals(engine: Engine) -> None:
    """Random calls on three names from six clients: every answer is success, or a refusal that
    the state explains; and in the end nothing is left (the fixture looks)."""
    chance = random.Random(7)
    containers = engine.containers
    commands = ("sleep 0.05; exit 1", "sleep 1000", "exit 0")
    policies = (RestartPolicy(), RestartPolicy("always"), RestartPolicy("on-failure", 1))
    check = HealthCheck(("CMD", "true"), interval=30_000_000)

    async def create(name: str) -> None:
        host = HostConfig(restart_policy=chance.choice(policies), auto_remove=False)
        await engine.create(
            "sh", "-c", chance.choice(commands), name=name, host=host, healthcheck=check
        )

    async def run_beside(name: str) -> None:
        made = await containers.exec_create(name, ExecConfig(("echo", "x"), attach_stdout=True))
        streams = await containers.exec_start(made.id, detach=False, tty=False)
        assert streams is not None
        async for _ in streams:
            pass

    async def read(name: str) -> None:
        await engine.output(name, LogQuery(follow=True, until=time.time_ns() + 20_000_000))

    calls: tuple[Callable[[str], Awaitable[object]], ...] = (
        create, create, containers.start, containers.start, run_beside, read,
        containers.kill, containers.pause, containers.unpause,
        lambda name: containers.stop(name, timeout=0),
        lambda name: containers.restart(name, timeout=0),
        lambda name: containers.remove(name, force=True),
    )  # fmt: skip

    async def client() -> None:
        for _ in range(30):
            with contextlib.suppress(Conflict, NotFound):
                await chance.choice(calls)(chance.choice(("aa", "bb", "cc")))

    async with asyncio.timeout(500), asyncio.TaskGroup() as group:  # an emulated machine is slow
        for _ in range(6):
            group.create_task(client())
