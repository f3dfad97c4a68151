"""A plan on file: what was foreseen, from which declaration, so that just that is applied later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.load.files import reason
from compose.lockfile import context_digests
from compose.model.project import Project
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.revision import Revision, parse_revision, to_document

VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanFile:
    project: str
    options: PlanOptions
    revision: Revision  # what it was made from, its changes in words
    digest: str  # of all that it would do


def plan_digest(plan: Plan, project: Project) -> str:
    """Of every action with all that it gives the engine, and of the contexts of its builds."""
    whole = {
        "steps": [
            {"key": step.key, "after": step.after, "action": _plain(asdict(step.action))}
            for step in plan.steps
        ],
        "contexts": context_digests(project),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case frozenset():
            return sorted(map(str, value))
        case bytes():
            return hashlib.sha256(value).hexdigest()
        case str() | int() | float() | None:
            return value
        case _:
            raise TypeError(f"an action holds a {type(value).__name__}")


def write_plan_file(path: Path, file: PlanFile) -> None:
    """Only for its owner: the resolved project may hold passwords. Raises OSError."""
    document = {
        "version": VERSION,
        "project": file.project,
        "options": _plain(asdict(file.options)),
        "declared": to_document(file.revision),
        "digest": file.digest,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n")


def read_plan_file(path: Path) -> PlanFile:
    """Raises ProjectError."""
    try:
        document: object = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(Problem(f"cannot read {path}: {reason(error)}")) from error
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ProjectError(
            Problem(f"{path} is no plan of this pycompose", hint="make one: pycompose plan -o FILE")
        )
    declared, options = document.get("declared"), document.get("options")
    if not isinstance(declared, dict) or not isinstance(options, dict):
        raise ProjectError(Problem(f"{path} is no whole plan", hint="make it again"))
    return PlanFile(
        project=str(document.get("project", "")),
        options=_options(options),
        revision=parse_revision(declared),
        digest=str(document.get("digest", "")),
    )


def _options(values: Mapping[str, object]) -> PlanOptions:
    known = {each.name for each in fields(PlanOptions)}
    chosen: dict[str, object] = {
        name: frozenset(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known
    }
    return PlanOptions(**chosen)  # type: ignore[arg-type]


def moved(file: PlanFile, now: tuple[str, ...]) -> str:
    """What is foreseen otherwise than when the plan was made, in words."""
    before = file.revision.changes
    lines = [f"  no longer: {line}" for line in before if line not in now]
    lines += [f"  now: {line}" for line in now if line not in before]
    return "\n".join(lines) or "  the same changes, but not to the same things"
