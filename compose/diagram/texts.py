"""pure: a Diagram as text to read, as Mermaid, as DOT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from compose.diagram.model import Box, Diagram, Line
from compose.model.project import Project

_VERBS = {"service": "needs", "network": "on", "volume": "mounts", "config": "config",
          "secret": "secret"}  # fmt: skip
_PLURALS = {"network": "networks", "volume": "volumes", "config": "configs", "secret": "secrets"}


def plain_text(diagram: Diagram) -> str:
    """Each service and what it needs, in the order in which they start."""
    columns = diagram.levels()
    services = sorted(diagram.of_kind("service"), key=lambda box: (-columns[box.key], box.name))
    blocks = ["\n".join(_service(diagram, box)) for box in services]
    rest = [
        f"{_PLURALS[kind]}: " + ", ".join(_named(box) for box in diagram.of_kind(kind))
        for kind in _PLURALS
        if diagram.of_kind(kind)
    ]
    return "\n\n".join([*blocks, *(["\n".join(rest)] if rest else [])]) + "\n"


def _named(box: Box) -> str:
    return f"{box.name} ({', '.join(box.lines)})" if box.lines else box.name


def _service(diagram: Diagram, box: Box) -> Iterator[str]:
    yield f"{box.name}   {', '.join(box.lines)}"
    for kind, verb in _VERBS.items():
        ends = [_end(line) for line in diagram.from_box(box) if line.end.startswith(f"{kind} ")]
        if ends:
            yield f"  {verb:7}{', '.join(ends)}"


def _end(line: Line) -> str:
    name = line.end.partition(" ")[2]
    if line.is_dependency:
        return f"{name} ({line.words})"
    return f"{name} -> {line.words}" if line.words else name


# ---- Mermaid ----

_SHAPES = {"service": '["{}"]', "network": '(["{}"])', "volume": '[("{}")]', "config": '>"{}"]',
           "secret": '{{{{"{}"}}}}'}  # fmt: skip


def mermaid(diagram: Diagram) -> str:
    names = {box.key: f"n{index}" for index, box in enumerate(diagram.boxes)}
    lines = [f"---\ntitle: {json.dumps(diagram.title)}\n---", "flowchart LR"]
    for box in diagram.boxes:
        label = "<br>".join(_entities(text) for text in (box.name, *box.lines))
        lines.append(f"  {names[box.key]}{_SHAPES[box.kind].format(label)}")
    for line in diagram.lines:
        arrow = "-.->" if line.is_optional else "-->" if line.is_dependency else "---"
        words = f'|"{_entities(line.words)}"|' if line.words else ""
        lines.append(f"  {names[line.start]} {arrow}{words} {names[line.end]}")
    return "\n".join(lines) + "\n"


def _entities(text: str) -> str:
    for letter, entity in (("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(letter, entity)
    return text


# ---- DOT ----

_DOT_SHAPES = {"service": "box", "network": "ellipse", "volume": "cylinder", "config": "note",
               "secret": "hexagon"}  # fmt: skip


def dot(diagram: Diagram) -> str:
    lines = [f"digraph {_quoted(diagram.title)} {{", "  rankdir=LR;", "  node [fontname=sans];"]
    for box in diagram.boxes:
        label = _quoted("\n".join([box.name, *box.lines]))
        lines.append(f"  {_quoted(box.key)} [shape={_DOT_SHAPES[box.kind]}, label={label}];")
    for line in diagram.lines:
        style = "dashed" if line.is_optional else "solid"
        arrow = "normal" if line.is_dependency else "none"
        lines.append(
            f"  {_quoted(line.start)} -> {_quoted(line.end)}"
            f" [label={_quoted(line.words)}, style={style}, arrowhead={arrow}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ---- as Docker Compose's `alpha viz` writes it ----


def viz(
    project: Project,
    indent: str,
    *,
    image: bool = False,
    networks: bool = False,
    ports: bool = False,
) -> str:
    lines = [f"digraph {_quoted(project.name)} {{", f"{indent}layout=dot;"]
    for service in project.services.values():
        parts = [f'<font point-size="15">{_html(service.name)}</font>']
        if networks:
            parts.append(_small("Networks", sorted(service.networks)))
        if ports and service.ports:
            said = [f"{port.published or ''}:{port.target} ({port.protocol}, {port.mode})"
                    for port in service.ports]  # fmt: skip
            parts.append(_small("Ports", said))
        if image:
            parts.append(_small("Image", [project.image_name(service)]))
        lines.append(f'{indent}{_quoted(service.name)} [style="filled" label=<{"".join(parts)}>];')
    lines.append("")
    for service in project.services.values():
        lines += [
            f"{indent}{_quoted(service.name)} -> {_quoted(name)};"
            for name in service.depends_on
            if name in project.services
        ]
    return "\n".join([*lines, "}"]) + "\n"


def _small(title: str, lines: Sequence[str]) -> str:
    said = "".join(f"<br/>{_html(line)}" for line in lines)
    return f'<font point-size="10"><br/><br/><b>{title}:</b>{said}</font>'


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
