"""The process that prepares births: all of a container that can be there before its shim is.

The spawner's first child, and the one that the daemon talks to. What it does costs no memory but
its own, however many containers there are. A shim keeps every page that it wrote to for as long as
it lives, and each that the spawner wrote to between two forks: so neither does what is done here.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, cast

from engine.errors import EngineError
from engine.kernel import privileges, procfs
from engine.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWUTS
from engine.runtime import channel, lead_in, refuge, user_namespace, visiting
from engine.runtime.birth import EXIT, RECORD, SOCKET, Birth, pack, unlink_files, write_document
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.id_maps import IdMaps
from engine.runtime.orders import read_shims_part

_LONGEST_ANSWER = 4096
_NOT_STARTED = 128

# What may go wrong without being a mistake of ours.
_EXPECTED = (OSError, EngineError)


# The spawner's answer, where it isn't why it could not do that.
DONE = b"done"
# Before a pattern (see `lead_in`); else a message is a birth.
PATTERN = b"pattern"


class _SpawnerGone(Exception): ...


def serve(daemon: socket.socket, spawner: socket.socket, hierarchy: Hierarchy) -> NoReturn:
    """Until one of the two is gone. A daemon that goes without a word has crashed."""
    after_crash: object = None
    command: object = None
    try:
        ready: dict[str, object] = {"ready": os.getppid()}
        procfs.set_command_line("pycompose-maker")
        privileges.set_name("pycompose-maker")
        with contextlib.suppress(BrokenPipeError):  # the daemon is gone already, as is seen below
            channel.send(daemon, ready)
        poll = select.poll()
        for one in (daemon, spawner):
            poll.register(one, select.POLLIN)
        while all(descriptor == daemon.fileno() for descriptor, _ in poll.poll()):
            message = channel.receive(daemon)
            if message is None:
                command = after_crash
                break
            if channel.AFTER_CRASH in message.body:
                after_crash = message.body[channel.AFTER_CRASH]
                continue
            document, descriptor, orders = message.descriptors
            with socket.socket(fileno=descriptor) as shims_end:
                _make(spawner, document, shims_end, orders, hierarchy)
            os.close(document)
            os.close(orders)
        refuge.leave(hierarchy, together=True)
        if command:
            _run(cast("Mapping[str, object]", command))
    except _SpawnerGone:
        pass  # the daemon starts another, and us with it
    except BaseException:  # noqa: BLE001 - the end of this process; its output is the daemon's log
        sys.stderr.write(traceback.format_exc())
    finally:
        os._exit(0)


def _run(command: Mapping[str, object]) -> None:
    """As the daemon itself was started: in a session of its own, with the daemon's output."""
    argv = cast("list[str]", command["argv"])
    os.chdir(cast(str, command["folder"]))
    os.posix_spawn(
        argv[0], argv, cast("dict[str, str]", command["environment"]), setsid=True, setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
    )  # fmt: skip


def _make(
    spawner: socket.socket,
    document: int,
    shims_end: socket.socket,
    orders: int,
    hierarchy: Hierarchy,
) -> None:
    try:
        wanted = read_shims_part(document)
        with _made(wanted, shims_end, hierarchy) as birth:
            birth.orders = orders
            _fork(spawner, birth, Cgroup(hierarchy, birth.cgroup))
    except _SpawnerGone:
        raise
    except Exception as error:  # noqa: BLE001 - one container; the daemon hears of it
        text = str(error) or type(error).__name__
        if not isinstance(error, _EXPECTED):
            sys.stderr.write(traceback.format_exc())
            text = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            channel.send(shims_end, {"event": "failed", "error": text, "code": _NOT_STARTED})


def _fork(spawner: socket.socket, birth: Birth, cgroup: Cgroup) -> None:
    global _told
    parent, _, name = cgroup.path.rpartition("/")
    if _told != (parent, len(name)):
        _ask(spawner, PATTERN + lead_in.pattern(cgroup))
        _told = parent, len(name)
    message, descriptors = pack(birth)
    _ask(spawner, message, tuple(descriptors))


# What the spawner has a pattern for: the groups in this one, with a name of so many characters.
_told = ("", 0)


def _ask(spawner: socket.socket, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
    try:
        channel.send_encoded(spawner, message, descriptors)
        answer = spawner.recv(_LONGEST_ANSWER)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    if not answer:
        raise _SpawnerGone
    if answer != DONE:
        raise OSError(answer.decode())


@contextlib.contextmanager
def _made(
    orders: Mapping[str, object], shims_end: socket.socket, hierarchy: Hierarchy
) -> Iterator[Birth]:
    """By the shim's part of the orders; inside, its owner is forked, after the daemon was given
    its own of it. If anything fails, nothing of it stays; descriptors never do. But a spawner that
    is gone without an answer may have forked it: then all is its own, or what the daemon clears
    away that finds the other end of the shim's connection closed."""
    cgroup = Cgroup(hierarchy, cast(str, orders["cgroup"]))
    birth = Birth(
        container_id=cast(str, orders["container_id"]),
        exec_path=cast(str, orders["exec_dir"]),
        cgroup=cgroup.path,
        namespaces=cast(int, orders["namespaces"]),
        pid_namespace=cast(str, orders["pid_namespace"]),
        ids=cast("Mapping[str, Sequence[object]] | None", orders["ids"]),
        owner=(0, 0),
        is_spare=bool(orders["spare"]),
        is_scripted=bool(orders["scripted"]),
        daemon=shims_end.fileno(),
    )
    with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:

        def hold(descriptor: int) -> int:
            if descriptor >= 0:
                held.callback(os.close, descriptor)
            return descriptor

        if birth.is_spare:
            with contextlib.suppress(FileExistsError):
                os.mkdir(birth.exec_path, 0o700)
            undo.callback(os.rmdir, birth.exec_path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        birth.exec_dir = hold(os.open(birth.exec_path, flags))
        undo.callback(unlink_files, birth.exec_dir)
        unlink_files(birth.exec_dir, EXIT)
        # First, so that whatever ends this process now, all that it made is found.
        record = {"container_id": birth.container_id, "cgroup": cgroup.path}
        write_document(birth.exec_dir, RECORD, record, durable=False)
        cgroup.create(cast("Mapping[str, object]", orders["resources"]))
        undo.callback(cgroup.remove)
        birth.supervisor, birth.heard = (hold(one.detach()) for one in channel.pair())
        birth.group = hold(cgroup.unified_fd())
        birth.oom = hold(cgroup.oom_fd())
        birth.listener = hold(_listener(birth.exec_dir))
        owned = {}
        if birth.ids is not None:
            maps = IdMaps.parse(birth.ids["uidMappings"], birth.ids["gidMappings"])
            joined = cast(str, orders["user_namespace"])
            made = user_namespace.make(maps, birth.namespaces, joined=joined)
            birth.user, birth.files = hold(made.user), hold(made.files)
            owned = {kind: hold(descriptor) for kind, descriptor in made.owned.items()}
            birth.ipc, birth.uts = owned.get(CLONE_NEWIPC, -1), owned.get(CLONE_NEWUTS, -1)
            birth.owner = maps.owner
            birth.namespaces &= ~(CLONE_NEWUSER | sum(owned))
        if orders["own_network"]:
            network = owned.get(CLONE_NEWNET, -1)
            birth.network = network if network >= 0 else hold(visiting.new_network())
            birth.namespaces &= ~CLONE_NEWNET
            with visiting.in_network(birth.network):
                visiting.raise_loopback()
                if orders["dns"]:
                    birth.dns_udp, birth.dns_tcp = map(hold, visiting.dns_sockets())
                netlink = tuple(map(hold, visiting.netlink_sockets()))
            dns = (birth.dns_udp, birth.dns_tcp) if orders["dns"] else ()
            channel.send(shims_end, {"event": "connected"}, (birth.network, *netlink, *dns))
        try:
            yield birth
        except _SpawnerGone:
            undo.pop_all()
            raise
        undo.pop_all()


def _listener(exec_dir: int) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        # By descriptor: the path itself may be longer than a socket address.
        listener.bind(f"/proc/self/fd/{exec_dir}/{SOCKET}")
        listener.listen(16)
        listener.setblocking(False)
        return listener.detach()
