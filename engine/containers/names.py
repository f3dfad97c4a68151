"""Container names: what is allowed, and ones made up for those who don't care."""

import re
import secrets
from collections.abc import Callable

from engine.errors import InvalidRequest

ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(rf"/?{ALLOWED}+")

_words = re.compile("[a-z]+").findall
_QUALITIES = _words(
    "amber brisk calm clever copper crisp curious daring eager early fair gentle golden happy "
    "honest humble jolly keen kind lively lucid mellow merry modest nimble noble patient plucky "
    "polite proud quick quiet rapid ready serene sharp silver smooth steady sunny swift tidy "
    "upbeat vivid warm wise witty zesty"
)
_ANIMALS = _words(
    "badger beaver bison crane curlew dolphin eagle egret falcon ferret finch fox gecko gibbon "
    "heron ibex jackal jay kestrel koala lark lemur linnet lynx marten mole newt ocelot orca otter "
    "owl panda petrel puffin quail raven robin salmon seal shrew siskin stoat swan tapir tern "
    "thrush toad trout viper walrus weasel wren yak zebra"
)


def checked_name(name: str) -> str:
    """The name without its slash. Raises InvalidRequest for one that can't be a name."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"Invalid container name ({name}), only {ALLOWED} are allowed")
    return name.removeprefix("/")


def made_up_name(is_taken: Callable[[str], bool]) -> str:
    while True:
        name = f"{secrets.choice(_QUALITIES)}_{secrets.choice(_ANIMALS)}"
        if is_taken(name):
            name += f"_{secrets.token_hex(2)}"
        if not is_taken(name):
            return name
