"""Pure: what a RUN asks for: its flags, its command, its variables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.builder.config import DEFAULT_SHELL, command_words
from engine.builder.dockerfile import Instruction, refusal
from engine.builder.expand import PREDEFINED
from engine.builder.model import BuildRequest
from engine.builder.run_step import SCRIPT
from engine.errors import Forbidden

_NETWORKS = {"default": "", "none": "none", "host": "host"}


@dataclass(frozen=True, slots=True)
class RunFlags:
    """But for --mount."""

    network: str = ""  # "none", "host"; "" for the build's
    is_privileged: bool = False


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
        raise refusal(one.line, f"invalid network mode {network!r}")
    if security not in ("sandbox", "insecure"):
        raise refusal(one.line, f"security {security!r} is not valid")
    return RunFlags(_NETWORKS[network], security == "insecure")


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
