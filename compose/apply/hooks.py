"""Runs a command in a container and gathers what came of it: hooks of services, watch rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compose.client.engine import Engine
from compose.client.streams import LineMaker, outputs, read_blocks
from compose.dataclass import dataclass
from compose.model.service import Hook

KEPT = 4096  # bytes of output


@dataclass(frozen=True, slots=True)
class HookResult:
    exit_code: int
    last_lines: Sequence[str]


async def run_hook(
    engine: Engine, container: str, hook: Hook, tell: Callable[[str], None] = lambda line: None
) -> HookResult:
    """Returns when the command has ended, whatever its exit code. `tell` gets each line that it
    writes at once. Raises ClientError."""
    exec_id = await engine.containers.create_exec(
        container,
        hook.command or (),
        user=hook.user,
        privileged=hook.privileged,
        working_dir=hook.working_dir,
        environment=[
            name if value is None else f"{name}={value}" for name, value in hook.environment.items()
        ],
    )
    duplex = await engine.containers.start_exec(exec_id)
    said, maker = b"", LineMaker()
    try:
        async for output in outputs(read_blocks(duplex), tty=False):
            said = (said + output.text)[-KEPT:]
            for line in maker.feed(output.text):
                tell(line)
    finally:
        await duplex.close()
    for line in maker.flush():
        tell(line)
    result = await engine.containers.inspect_exec(exec_id)
    return HookResult(result.exit_code or 0, said.decode("utf-8", "replace").splitlines()[-10:])
