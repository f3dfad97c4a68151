"""Pure: instructions become stages, and which of them a target needs.

A stage needs what its FROM names, an earlier stage or an image, and what its `COPY --from` and
`RUN --mount=from` name: any stage by name or number, else an image.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.builder.dockerfile import Dockerfile, Instruction, refusal, suggestion
from engine.builder.expand import expand_word, split_words
from engine.errors import InvalidRequest

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Stage:
    index: int
    name: str  # "" for one without AS
    base: str  # as expanded: an image, "scratch", or the name of an earlier stage
    platform: str
    start: Instruction  # its FROM
    body: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    global_args: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    global_names: Mapping[str, str]  # ARGs before the first FROM, with their values

    def base(self, stage: Stage) -> Stage | None:
        """The one that its FROM means; None for an image."""
        return _named(self.stages[: stage.index], stage.base)

    def source(self, reference: str) -> Stage | None:
        """The one that a --from means, wherever it stands; None for an image. Raises
        InvalidRequest."""
        if not reference.isdecimal():
            return _named(self.stages, reference)
        if int(reference) >= len(self.stages):
            raise InvalidRequest(f"invalid stage index {reference}")
        return self.stages[int(reference)]

    def target(self, name: str) -> Stage:
        if not name:
            return self.stages[-1]
        found = _named(self.stages, name)
        if found is None:
            names = [stage.name for stage in self.stages if stage.name]
            raise InvalidRequest(
                f'target stage "{name}" could not be found{suggestion(name, names)}'
            )
        return found

    def extended(self, target: str, instructions: Sequence[Instruction]) -> "Plan":
        """With more instructions at the end of the target's stage. Raises InvalidRequest."""
        last = self.target(target)
        longer = replace(last, body=(*last.body, *instructions))
        stages = [longer if stage is last else stage for stage in self.stages]
        return replace(self, stages=tuple(stages))

    def needs(self, stage: Stage) -> tuple[Stage, ...]:
        """Those that have to be built before it, or while."""
        references = (word for each in stage.body for word in _sources(each) if word)
        found = (self.base(stage), *map(self.source, references))
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def leads_to(self, start: Stage, goal: Stage, more: Mapping[int, Collection[int]]) -> bool:
        """Whether `start` has to wait for `goal`, which may be itself. `more`: what stages need
        besides, by their indices."""
        seen: set[int] = set()
        waiting = [start]
        while waiting:
            stage = waiting.pop()
            if stage.index == goal.index:
                return True
            if stage.index not in seen:
                seen.add(stage.index)
                waiting += self.needs(stage)
                waiting += (self.stages[index] for index in more.get(stage.index, ()))
        return False

    def needed(self, target: Stage) -> tuple[Stage, ...]:
        """The target and all that it needs: each after what it needs itself, else as in the
        file."""
        needs: dict[int, set[int]] = {}
        waiting = [target]
        while waiting:
            stage = waiting.pop()
            if stage.index not in needs:
                needed = self.needs(stage)
                needs[stage.index] = {each.index for each in needed}
                waiting += needed
        order: list[Stage] = []
        left = sorted(needs)
        while left:
            index = next(index for index in left if needs[index].isdisjoint(left))
            left.remove(index)
            order.append(self.stages[index])
        return tuple(order)


def make_plan(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str | None],
    known: Mapping[str, str],
    contexts: Collection[str] = (),
) -> Plan:
    """`known`: arguments that need no declaration (TARGETARCH and its kin). A stage with the name
    of one of the `contexts` is that context."""
    instructions = dockerfile.instructions
    first = next((i for i, each in enumerate(instructions) if each.keyword == "FROM"), None)
    if first is None:
        raise InvalidRequest("no build stage in current context")
    names: dict[str, str] = {}
    for each in instructions[:first]:
        if each.keyword != "ARG":
            raise refusal(each.line, f"no build stage in current context: {each.keyword}")
        scope = {**known, **names}
        for name, default in arguments(each, scope, dockerfile.escape):
            given = build_args.get(name)
            if given is not None or default is not None:
                names[name] = given if given is not None else default or ""
    scope = {**known, **names}
    stages: list[Stage] = []
    starts = [i for i, each in enumerate(instructions) if each.keyword == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        body = instructions[start + 1 : end]
        stage = _stage(len(stages), instructions[start], body, scope, dockerfile.escape)
        if stage.name and stage.name in contexts:
            stage = replace(stage, base=stage.name, body=())
        stages.append(stage)
    plan = Plan(instructions[:first], tuple(stages), names)
    _check_sources(plan)
    return plan


def _check_sources(plan: Plan) -> None:
    """There are such stages, and none waits for itself."""
    for stage in plan.stages:
        for each in stage.body:
            for name in filter(None, _sources(each)):
                try:
                    source = plan.source(name)
                except InvalidRequest as error:
                    raise refusal(each.line, str(error)) from None
                if source is not None and plan.leads_to(source, stage, {}):
                    raise refusal(each.line, circle(stage))


def circle(stage: Stage) -> str:
    return f"circular dependency detected on stage: {stage.name or stage.index}"


def _named(stages: Sequence[Stage], name: str) -> Stage | None:
    """The last one of that name."""
    found = (each for each in reversed(stages) if each.name and each.name == name.lower())
    return next(found, None)


def arguments(
    instruction: Instruction, scope: Mapping[str, str], escape: str
) -> tuple[tuple[str, str | None], ...]:
    """Of an ARG: name and default, each seeing those before it."""
    found: list[tuple[str, str | None]] = []
    for word in split_words(instruction.arguments, escape):
        name, equals, default = word.partition("=")
        name = name.strip("\"'")
        if not name:
            raise refusal(instruction.line, "ARG names can not be blank")
        inner = {**scope, **{key: value for key, value in found if value is not None}}
        found.append((name, expand_word(default, inner, escape) if equals else None))
    return tuple(found)


def _stage(
    index: int,
    start: Instruction,
    body: Sequence[Instruction],
    scope: Mapping[str, str],
    escape: str,
) -> Stage:
    words = start.arguments.split()
    match words:
        case [base]:
            name = ""
        case [base, keyword, name] if keyword.lower() == "as":
            name = name.lower()
            if not _STAGE_NAME.fullmatch(name):
                raise refusal(
                    start.line,
                    f'invalid name for build stage: "{words[2]}", '
                    "name can't start with a number or contain symbols",
                )
        case _:
            raise refusal(start.line, "FROM requires either one or three arguments")
    for flag in start.flags:
        if flag.name != "platform":
            raise refusal(start.line, f"unknown flag: {flag.name}")
    base = expand_word(base, scope, escape)
    if not base:
        raise refusal(start.line, f"base name ({words[0]}) should not be blank")
    asked = start.flag("platform") or ""
    platform = expand_word(asked, scope, escape)
    if asked and not platform:
        raise refusal(start.line, f"empty platform value from expression {asked}")
    return Stage(index, name, base, platform, start, tuple(body))


def mount_fields(value: str) -> dict[str, str]:
    """`type=bind,source=a,rw` as a map; a bare word stands for true."""
    pairs = (field.partition("=") for field in value.split(","))
    return {key.strip().lower(): text if equals else "true" for key, equals, text in pairs}


def _sources(instruction: Instruction) -> tuple[str, ...]:
    if instruction.keyword == "COPY":
        return tuple(flag.value or "" for flag in instruction.flags if flag.name == "from")
    if instruction.keyword == "RUN":
        mounts = (flag.value or "" for flag in instruction.flags if flag.name == "mount")
        return tuple(mount_fields(mount).get("from", "") for mount in mounts)
    return ()
