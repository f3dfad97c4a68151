from __future__ import annotations

from hypothesis import given, settings

from compose.model.document import Document
from compose.model.fingerprint import service_hash
from compose.model.project import Project
from compose.plan.diff import Difference, differences, in_words, summary
from compose.plan.record import (
    config_hash,
    parse_record,
    record_differences,
    sealed,
    service_record,
    write_record,
)
from tests.compose.strategies import projects


@settings(deadline=None, max_examples=50)
@given(projects())
def test_the_hash_is_that_of_the_model(project: Project) -> None:
    for service in project.services.values():
        assert config_hash(service.to_document()) == service_hash(service)


@settings(deadline=None, max_examples=50)
@given(projects())
def test_a_record_reads_back_as_it_was_written(project: Project) -> None:
    for service in project.services.values():
        record = service_record(project, service, service.to_document(), lambda _: "sha256:1")
        assert parse_record(write_record(record)) == record


def test_a_record_tells_nothing_of_a_secret_but_whether_it_is_the_same() -> None:
    plain = {"service": {}, "secrets": {"pin": "sha256:" + "0" * 64}}
    one, other = sealed(plain, "engine-one"), sealed(plain, "engine-two")
    assert "0" * 64 not in write_record(one)
    assert one != other
    # Containers of before that stay as they are.
    assert sealed(plain, "engine-one") == sealed(one, "engine-one") == one
    assert sealed({"service": {}}, "engine-one") == {"service": {}}


def test_what_is_no_record_is_none() -> None:
    assert parse_record("") is None
    assert parse_record("{") is None
    assert parse_record("[]") is None


def test_differences_are_told_in_words_and_secrets_are_not() -> None:
    old = {"image": "a:1", "environment": {"KEY": "old"}, "gone": 1, "ports": [1]}
    new = {"image": "a:2", "environment": {"KEY": "new"}, "user": "x", "ports": [1, 2]}
    found = differences(old, new)
    assert [in_words(difference) for difference in found] == [
        "environment.KEY changed", "gone 1 -> unset", "image a:1 -> a:2", "ports changed",
        "user unset -> x",
    ]  # fmt: skip
    told = {
        ("environment", "COLOUR"): ("red", "dark blue", "red -> dark blue"),
        ("environment", "DB_PASSWORD"): ("one", "two", "changed"),
        ("environment", "DB"): ("db://me:one@db/x", "db://me:two@db/x", "changed"),
        ("command",): (["echo", "a"], ["echo", "b c"], "echo a -> echo 'b c'"),
        ("command",  "--"): (["x", "--token=1"], ["x", "--token=2"], "changed"),
        ("content",): ("one", "two", "changed"),
    }  # fmt: skip
    for place, (one, two, words) in told.items():
        name = ".".join(place)
        assert in_words(Difference(place, one, two)) == f"{name} {words}"
    assert summary(found).endswith("image a:1 -> a:2, and 2 more")


def test_a_section_that_comes_or_goes_is_told_field_by_field() -> None:
    limits = {"limits": {"memory": "64", "pids": 5}}
    old: Document = {"service": {"deploy": {"resources": limits}, "healthcheck": {"test": ["x"]}}}
    found = record_differences(old, {"service": {"environment": {"A": "1"}}})
    assert [in_words(each) for each in found] == [
        "deploy.resources.limits.memory 64 -> unset",
        "deploy.resources.limits.pids 5 -> unset",
        "environment.A unset -> 1",
        "healthcheck removed",
    ]
