"""Small project folders for the tests of the loader."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from compose.load.pipeline import LoadRequest, load_project
from compose.model.project import Project


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Files by name."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
    return folder


def load(
    folder: Path,
    text: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    files: tuple[str, ...] = (),
    services: tuple[str, ...] = (),
    profiles: tuple[str, ...] = (),
    **options: object,
) -> Project:
    """The project of a folder; `text` becomes its compose.yaml."""
    if text is not None:
        (folder / "compose.yaml").write_text(dedent(text).lstrip("\n"))
    request = LoadRequest(
        directory=folder,
        environment={"HOME": "/root", **(environment or {})},
        files=files,
        services=services,
        profiles=profiles,
        **options,  # type: ignore[arg-type]
    )
    return load_project(request)
