"""pure: which command there is, what it does, and where it lives: `module:function` in engine.cli.

A module is imported when its command is asked for, and none for --help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """`where` "": a group, whose commands are in GROUPS. `verbatim`: what follows the first
    argument belongs to the container, options too."""

    where: str
    help: str
    verbatim: bool = False


Entries = Mapping[str, Entry]

_CONTAINERS: Entries = {
    "run": Entry("containers.run:run", "Create and start a container from an image.", True),
    "create": Entry("containers.create:create", "Create a container without starting it.", True),
    "start": Entry("containers.start:start", "Start containers that were created or stopped."),
    "restart": Entry("containers.life:restart", "Restart containers."),
    "kill": Entry("containers.life:kill", "Send containers a signal."),
    "rm": Entry("containers.life:rm", "Remove containers."),
    "pause": Entry("containers.life:pause", "Stop the clock of running containers."),
    "unpause": Entry("containers.life:unpause", "Let paused containers go on."),
    "wait": Entry("containers.life:wait", "Wait for containers to end; print their exit codes."),
    "rename": Entry("containers.life:rename", "Give a container another name."),
    "update": Entry("containers.update:update", "Change the limits of containers."),
    "ps": Entry("containers.ps:ps", "List containers."),
    "logs": Entry("containers.logs:logs", "Show what a container wrote."),
    "exec": Entry("containers.exec:exec_", "Run a command in a running container.", True),
    "attach": Entry("containers.attach:attach", "Connect this terminal to a running container."),
    "cp": Entry("containers.files:cp", "Copy files from or into a container."),
    "diff": Entry("containers.files:diff", "List what changed in a container's file system."),
    "export": Entry("containers.files:export", "Write a container's file system as a tar."),
    "commit": Entry("containers.files:commit", "Make an image of what a container has become."),
    "port": Entry("containers.port:port", "Print where a container's ports are published."),
    "top": Entry("containers.top:top", "Show the processes of a container.", True),
    "stats": Entry("containers.stats:stats", "Show what containers use, as it changes."),
}
_STOP = Entry("stop:stop", "Stop containers; without a name: end the engine.")
_IMAGES: Entries = {
    "images": Entry("images.ls:images", "List images."),
    "pull": Entry("images.transfer:pull", "Get an image from a registry."),
    "push": Entry("images.transfer:push", "Give an image to a registry."),
    "build": Entry("images.build:build", "Build an image from a Dockerfile."),
    "tag": Entry("images.names:tag", "Give an image another name."),
    "rmi": Entry("images.names:rmi", "Remove images."),
    "save": Entry("images.archives:save", "Write images to a tar."),
    "load": Entry("images.archives:load", "Read images from a tar that save wrote."),
    "import": Entry("images.archives:import_", "Make an image of a tar of files."),
    "history": Entry("images.history:history", "Show what an image was made by."),
    "search": Entry("images.search:search", "Search Docker Hub for images."),
    "login": Entry("login:login", "Log in to a registry."),
    "logout": Entry("login:logout", "Forget the log-in to a registry."),
}
_INFO = Entry("system:info", "Show the engine's state and abilities.")
_EVENTS = Entry("events:events", "Print what happens on the engine, until interrupted.")

# What `pyengine --help` lists, in this order.
SECTIONS: Mapping[str, Entries] = {
    "The engine": {
        "daemon": Entry("daemon:daemon", "Serve the Docker Engine API, until SIGTERM or SIGINT."),
        "stop": _STOP,
        "status": Entry("status:status", "Say whether the engine runs, and with what."),
        "info": _INFO,
        "version": Entry("system:version", "Print the versions of this command and the engine."),
        "events": _EVENTS,
        "completion": Entry("completion:completion", "Print the completion for a shell."),
    },
    "Containers": _CONTAINERS,
    "Images": _IMAGES,
    "Everything": {
        "inspect": Entry("inspect:inspect", "Print all that is known of an object, as JSON."),
        "container": Entry("", "The commands for containers, and prune."),
        "image": Entry("", "The commands for images, and prune."),
        "network": Entry("", "Networks: create, ls, inspect, rm, connect, disconnect, prune."),
        "volume": Entry("", "Volumes: create, ls, inspect, rm, prune."),
        "builder": Entry("", "The builder's cache: prune; build."),
        "system": Entry("", "The whole engine: df, prune, info, events."),
    },
}

GROUPS: Mapping[str, Entries] = {
    "container": {
        **{name: entry for name, entry in _CONTAINERS.items() if name != "ps"},
        "stop": Entry("containers.life:stop", "Stop containers."),
        "ls": _CONTAINERS["ps"],
        "inspect": Entry("inspect:inspect_container", "Print all that is known of containers."),
        "prune": Entry("prune:prune_containers", "Remove all stopped containers."),
    },
    "image": {
        "ls": _IMAGES["images"],
        "rm": _IMAGES["rmi"],
        **{
            name: _IMAGES[name]
            for name in ("build", "history", "import", "load", "pull", "push", "save", "tag")
        },
        "inspect": Entry("inspect:inspect_image", "Print all that is known of images."),
        "prune": Entry("prune:prune_images", "Remove images that nothing uses."),
    },
    "network": {
        "create": Entry("networks:create", "Create a network."),
        "ls": Entry("networks:ls", "List networks."),
        "inspect": Entry("inspect:inspect_network", "Print all that is known of networks."),
        "rm": Entry("networks:rm", "Remove networks."),
        "connect": Entry("networks:connect", "Connect a container to a network."),
        "disconnect": Entry("networks:disconnect", "Disconnect a container from a network."),
        "prune": Entry("prune:prune_networks", "Remove networks that nothing uses."),
    },
    "volume": {
        "create": Entry("volumes:create", "Create a volume."),
        "ls": Entry("volumes:ls", "List volumes."),
        "inspect": Entry("inspect:inspect_volume", "Print all that is known of volumes."),
        "rm": Entry("volumes:rm", "Remove volumes."),
        "prune": Entry("prune:prune_volumes", "Remove volumes that nothing uses."),
    },
    "builder": {
        "build": _IMAGES["build"],
        "prune": Entry("prune:prune_builds", "Remove what builds left for the next."),
    },
    "system": {
        "df": Entry("disk:df", "Show what takes how much room."),
        "prune": Entry("prune:prune_system", "Remove all that nothing uses."),
        "info": _INFO,
        "events": _EVENTS,
        "dial-stdio": Entry("dial:dial_stdio", "Connect input and output to the engine (for ssh)."),
    },
}

# Other names of the same, which help doesn't list.
_ALIASES = {"list": "ls", "remove": "rm", "ps": "ls"}


# For shells, not for people.
_UNLISTED: Entries = {
    "complete": Entry("completion:complete", "What a shell may offer for the last word."),
}


def find(group: str, name: str) -> Entry | None:
    """`group` "": at the top."""
    if group:
        entries = GROUPS[group]
        return entries.get(name) or entries.get(_ALIASES.get(name, ""))
    return next((all[name] for all in (*SECTIONS.values(), _UNLISTED) if name in all), None)


def names(group: str) -> list[str]:
    if group:
        return [*GROUPS[group]]
    return [name for entries in SECTIONS.values() for name in entries]
