"""`pyengine daemon`: check the machine, then serve in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.config_file import DEFAULT, merged, read_config_file
from engine.kernel.libc import told

if TYPE_CHECKING:
    from engine.settings import Settings

Texts = list[str] | None


def daemon(
    host: Annotated[
        Texts,
        typer.Option("--host", "-H", help="unix:///path or tcp://127.0.0.1:PORT; may be repeated"),
    ] = None,
    config_file: Annotated[
        str, typer.Option(help=f"Settings in a file [default: {DEFAULT}]", metavar="FILE")
    ] = "",
    data_root: Annotated[str, typer.Option(help="Where images, volumes and records live")] = "",
    exec_root: Annotated[str, typer.Option(help="Where sockets of running containers live")] = "",
    ready_fd: Annotated[
        int | None, typer.Option(help="Gets one byte once the engine serves", metavar="N")
    ] = None,
    after_crash: Annotated[
        str, typer.Option(help="Run should this process be killed", metavar="COMMAND")
    ] = "",
    log_level: Annotated[str, typer.Option(help="debug, info (default), warning or error")] = "",
    insecure_tcp: Annotated[
        bool, typer.Option(help="Listen on addresses that other machines reach, without TLS")
    ] = False,
    tls: Annotated[bool, typer.Option(help="Speak TLS on TCP addresses")] = False,
    tlsverify: Annotated[
        bool, typer.Option(help="Speak TLS, to clients with a certificate of --tlscacert only")
    ] = False,
    tlscacert: Annotated[
        str, typer.Option(help="Who signs clients' certificates [default: ~/.docker/ca.pem]")
    ] = "",
    tlscert: Annotated[
        str, typer.Option(help="The daemon's certificate [default: ~/.docker/cert.pem]")
    ] = "",
    tlskey: Annotated[str, typer.Option(help="Its key [default: ~/.docker/key.pem]")] = "",
    group: Annotated[
        str, typer.Option("--group", "-G", help="Of the UNIX socket [default: docker, if it is]")
    ] = "",
    registry_mirror: Annotated[
        Texts,
        typer.Option(
            help="Asked before Docker Hub: https://HOST[:PORT]; may be repeated",
            envvar="PYENGINE_REGISTRY_MIRROR",
        ),
    ] = None,
    insecure_registry: Annotated[
        Texts,
        typer.Option(
            help="HOST[:PORT] or network that may speak plain HTTP; may be repeated",
            envvar="PYENGINE_INSECURE_REGISTRY",
        ),
    ] = None,
    http_proxy: Annotated[
        str,
        typer.Option(help="For http addresses that the engine itself asks", metavar="URL"),
    ] = "",
    https_proxy: Annotated[str, typer.Option(help="For https addresses", metavar="URL")] = "",
    no_proxy: Annotated[
        str, typer.Option(help="Hosts, domains, networks without proxy", metavar="HOST,...")
    ] = "",
    log_driver: Annotated[
        str, typer.Option(help="Of containers that don't say [default: json-file]")
    ] = "",
    log_opt: Annotated[
        Texts, typer.Option(help="Option of that driver; may be repeated", metavar="KEY=VALUE")
    ] = None,
    default_address_pool: Annotated[
        Texts,
        typer.Option(
            help="What networks get subnets from; may be repeated", metavar="base=NETWORK,size=BITS"
        ),
    ] = None,
    mtu: Annotated[int, typer.Option(help="Of the default bridge; 0: the kernel's")] = 0,
    dns: Annotated[
        Texts, typer.Option(help="Name server of containers that don't say; may be repeated")
    ] = None,
    dns_opt: Annotated[
        Texts, typer.Option(help="Option of their resolver; may be repeated")
    ] = None,
    dns_search: Annotated[
        Texts, typer.Option(help="Domain in which they look for names; may be repeated")
    ] = None,
    userns_remap: Annotated[
        str,
        typer.Option(
            help="Containers' users are subordinate ids of this one, or `default`",
            metavar="USER[:GROUP]",
        ),
    ] = "",
    label: Annotated[
        Texts, typer.Option(help="Of this daemon; may be repeated", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Serve the Docker Engine API in the foreground, until SIGTERM or SIGINT."""
    from engine.cli.checks import check_machine, check_user
    from engine.errors import EngineError
    from engine.options import make_settings, parse_pair, parse_pool_option

    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    proxies = {"http-proxy": http_proxy, "https-proxy": https_proxy, "no-proxy": no_proxy}
    files = {"tlscacert": tlscacert, "tlscert": tlscert, "tlskey": tlskey}
    try:
        options = {
            "hosts": host,
            "data-root": data_root,
            "exec-root": exec_root,
            "log-level": log_level,
            "insecure-tcp": insecure_tcp,
            "tls": tls,
            "tlsverify": tlsverify,
            **{name: str(Path(file).absolute()) for name, file in files.items() if file},
            "group": group,
            "registry-mirrors": registry_mirror,
            "insecure-registries": insecure_registry,
            "proxies": {name: text for name, text in proxies.items() if text},
            "log-driver": log_driver,
            "log-opts": dict(map(parse_pair, log_opt or ())),
            "default-address-pools": [*map(parse_pool_option, default_address_pool or ())],
            "mtu": mtu,
            "dns": dns,
            "dns-opts": dns_opt,
            "dns-search": dns_search,
            "userns-remap": userns_remap,
            "labels": label,
        }
        given = {key: value for key, value in options.items() if value}
        path = Path(config_file) if config_file else DEFAULT
        file = read_config_file(path, is_required=bool(config_file))
        settings = make_settings(
            merged(given, file, path),
            uid=os.geteuid(),
            environment=os.environ,
            places={key: str(path) for key in file},
        )
        check_user(os.geteuid())
        check_machine()
        try:
            _serve(settings, ready_fd, after_crash)
        except OSError as error:  # the kernel or the disk refused while the parts were built
            fail(f"cannot start: {told(error, str(settings.data_root))}")
    except EngineError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot start: {told(error)}")


def _serve(settings: Settings, ready_fd: int | None, after_crash: str) -> None:
    import logging
    import shlex

    import uvloop

    from engine.daemon import run

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # What no line of ours shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # A thread that comes back from the kernel waits so long for the event loop to let go: with
    # Python's 5 ms, a dozen calls of a thread make a start under load ten times as long.
    sys.setswitchinterval(0.0005)
    # A container's life is some 60 turns of the loop: by Python's own, a tenth of its cost more.
    uvloop.run(run(settings, ready=ready_fd, after_crash=shlex.split(after_crash)))


def fail(message: str) -> None:
    typer.echo(f"pyengine: {message}", err=True)
    raise typer.Exit(1)
