"""Pure: what a RUN asks for: its flags, its command, its variables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.builder.config import DEFAULT_SHELL, command_words
from engine.builder.dockerfile import FALSE, TRUE, Instruction, refusal
from engine.builder.expand import PREDEFINED
from engine.builder.model import BuildRequest
from engine.builder.run_step import SCRIPT
from engine.errors import Forbidden, InvalidRequest

_NETWORKS = {"default": "", "none": "none", "host": "host"}


@dataclass(frozen=True, slots=True)
class Device:
    name: str  # as the Container Device Interface has it: vendor/class=name, or a class
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class RunFlags:
    """But for --mount."""

    network: str = ""  # "none", "host"; "" for the build's
    is_privileged: bool = False
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Variables:
    passed: Mapping[str, str]  # all that the command sees besides ENV
    counted: Mapping[str, str]  # those that the step's key and the history have
    consumed: frozenset[str]  # build arguments that need no ARG

    @property
    def prefix(self) -> str:
        """What the history says before the command."""
        said = " ".join(f"{name}={value}" for name, value in sorted(self.counted.items()))
        return f"|{len(self.counted)} {said} " if self.counted else ""


def run_flags(one: Instruction) -> RunFlags:
    """Raises InvalidRequest."""
    network = one.flag("network") or "default"
    security = one.flag("security") or "sandbox"
    if network not in _NETWORKS:
        raise refusal(one.line, f'invalid network mode "{network}"')
    if security not in ("sandbox", "insecure"):
        raise refusal(one.line, f'security "{security}" is not valid')
    devices = (_device(one, flag.value or "") for flag in one.flags if flag.name == "device")
    return RunFlags(_NETWORKS[network], security == "insecure", tuple(devices))


def _device(one: Instruction, value: str) -> Device:
    """`[name=]NAME[,required[=BOOLEAN]]`. The first field that means nothing else is the name,
    which may have a `=` itself."""
    name, is_required = "", False
    for field in value.split(","):
        key, equals, text = field.partition("=")
        key = key.lower()
        if key == "required":
            if equals and text.lower() not in (*TRUE, *FALSE):
                raise refusal(one.line, f"invalid value for required: {text}")
            is_required = not equals or text.lower() in TRUE
        elif equals and key == "name":
            if name:
                raise refusal(one.line, f"device name already set to {name}")
            name = text
        elif not name:
            name = field
        elif equals:
            raise refusal(one.line, f"unexpected key '{key}' in '{field}'")
        else:
            raise refusal(one.line, f"invalid field '{field}' must be a key=value pair")
    return Device(name, is_required)


def missing_devices(devices: Sequence[Device]) -> tuple[str, ...]:
    """Names to go on without: this engine has no registry of devices. Raises InvalidRequest where
    one is required."""
    for device in devices:
        if device.is_required:
            raise InvalidRequest(
                f'required device "{device.name}" is not registered: this engine reads no CDI '
                "specifications"
            )
    return tuple(device.name for device in devices)


def check_allowed(flags: RunFlags, request: BuildRequest) -> None:
    """What reaches the machine is for who asked for the build to allow, not the Dockerfile.
    Raises Forbidden."""
    if flags.network == "host" and request.host.network_mode != "host":
        _need(request, "network.host", "network: host")
    if flags.is_privileged:
        _need(request, "security.insecure", "privileged: true")


def _need(request: BuildRequest, entitlement: str, hint: str) -> None:
    if entitlement not in request.entitlements:
        raise Forbidden(
            f"{entitlement} is not allowed: whoever builds has to allow it, "
            f"in Compose by {hint!r} or 'entitlements: [{entitlement}]' under build"
        )


def run_variables(
    args: Mapping[str, str], env: Mapping[str, str], build_args: Mapping[str, str | None]
) -> Variables:
    """`args`: those that the stage has declared. ENV wins over all of them."""
    passed = {name: value for name, value in args.items() if name not in env}
    predefined = {
        name: value
        for name, value in build_args.items()
        if name in PREDEFINED and value is not None and name not in env
    }
    passed = {**predefined, **passed}
    counted = {name: value for name, value in passed.items() if name in args}
    return Variables(passed, counted, frozenset(predefined))


def run_words(one: Instruction, shell: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The command, and a script that it is to find at SCRIPT."""
    if not one.heredocs:
        return command_words(one, shell), ""
    shell = tuple(shell) or DEFAULT_SHELL
    only = one.arguments.split()
    if len(only) == 1 and len(one.heredocs) == 1:
        content = one.heredocs[0].content
        if content.startswith("#!"):
            return (SCRIPT,), content
        return (*shell, content), ""
    text = one.arguments
    for heredoc in one.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return (*shell, text), ""
