"""The local store of external secrets: sealed, private, and put into services."""

import json
from pathlib import Path

import pytest

from compose.errors import UsageError
from compose.load.pipeline import LoadRequest, load_project
from compose.secrets import SecretStore, store_of


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return store_of({"XDG_CONFIG_HOME": str(tmp_path)})


def folder(tmp_path: Path) -> Path:
    return tmp_path / "pycompose/secrets"


def test_a_secret_is_kept_sealed_and_for_nobody_else(store: SecretStore, tmp_path: Path) -> None:
    store.create("db", b"hunter2")
    assert store.read("db") == b"hunter2"
    for path in folder(tmp_path).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"hunter2" not in path.read_bytes()
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o700
    store.rotate("db", b"hunter3")
    assert store.read("db") == b"hunter3"
    assert [(entry.name, entry.version) for entry in store.entries()] == [("db", 2)]
    store.remove("db")
    assert store.names() == []


def test_what_cannot_be_is_told(store: SecretStore) -> None:
    store.create("db", b"x")
    with pytest.raises(UsageError, match="already"):
        store.create("db", b"y")
    with pytest.raises(UsageError, match="can't be the name"):
        store.create("../db", b"y")
    with pytest.raises(UsageError, match="would be empty"):
        store.create("other", b"")
    with pytest.raises(UsageError, match="there is no secret nope\n  hint: there are: db"):
        store.read("nope")


def test_files_that_were_changed_do_not_open(store: SecretStore, tmp_path: Path) -> None:
    store.create("one", b"first")
    store.create("two", b"second")
    old = (folder(tmp_path) / "one.json").read_text()
    # Another name's value, and an old one put back under a newer number.
    (folder(tmp_path) / "one.json").write_text((folder(tmp_path) / "two.json").read_text())
    with pytest.raises(UsageError, match="can't be opened"):
        store.read("one")
    (folder(tmp_path) / "one.json").write_text(json.dumps({**json.loads(old), "version": 2}))
    with pytest.raises(UsageError, match="can't be opened"):
        store.read("one")
    (folder(tmp_path) / "key").chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        store.read("two")


def test_an_external_secret_comes_from_the_store(store: SecretStore, tmp_path: Path) -> None:
    store.create("shared_db", b"hunter2")
    (tmp_path / "compose.yaml").write_text(
        "services: {a: {image: x, secrets: [db, other]}}\n"
        "secrets: {db: {external: true, name: shared_db}, other: {external: true}}\n"
    )
    project = load_project(LoadRequest(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)}))
    assert project.secrets["db"].content == b"hunter2"
    assert project.secrets["other"].content is None
    assert "hunter2" not in json.dumps(project.to_document())
