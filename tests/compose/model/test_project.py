from pathlib import Path

import pytest

from compose.errors import Problem, ProjectError
from compose.model.project import Place, Project, dotted
from compose.model.service import Attachment, Service
from compose.position import Position


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((), ""),
        (("services", "web", "ports", 0), "services.web.ports[0]"),
        (("services", "web.api", "x"), 'services["web.api"].x'),
        (("a b",), '["a b"]'),
    ],
)
def test_a_place_is_shown_with_dots(place: Place, text: str) -> None:
    assert dotted(place) == text


def test_the_nearest_known_place_stands_in_for_what_no_file_says() -> None:
    web = Position("compose.yaml", 2, 3)
    project = Project("p", Path("/p"), positions={("services", "web"): web})
    assert project.at("services", "web", "networks", "default") == web
    assert project.at("volumes", "x") is None
    assert str(project.problem("is wrong", "services", "web", "image", hint="fix it")) == (
        "compose.yaml:2:3: services.web.image: is wrong\n  hint: fix it"
    )


def test_problems_come_in_the_order_of_the_files_and_once_each() -> None:
    def at(file: str, line: int) -> Problem:
        return Problem("x", at=Position(file, line, 1))

    error = ProjectError(at("b", 2), at("a", 9), at("b", 1), at("b", 2), Problem("general"))
    assert str(error) == "x\n".join(["general\nb:1:1: ", "b:2:1: ", "a:9:1: x"])


def test_networks_are_joined_by_priority_then_name() -> None:
    networks = {"a": Attachment(), "b": Attachment(priority=5), "c": Attachment()}
    assert Service("s", networks=networks).networks_by_priority() == ("b", "a", "c")
