from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from compose.git import Repository
from compose.watch.observer import observe, quiet


async def test_one_save_is_one_batch(tmp_path: Path) -> None:
    async with observe({str(tmp_path): False}) as changes:
        (tmp_path / "new").write_text("1")
        (tmp_path / "new").rename(tmp_path / "compose.yaml")
        async with asyncio.timeout(20):
            batch = await changes.batch()
    assert str(tmp_path / "compose.yaml") in batch


async def test_reading_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    async with observe({str(tmp_path): False}) as changes:
        (tmp_path / "a").read_text()
        (tmp_path / "b").write_text("2")
        async with asyncio.timeout(20):
            assert str(tmp_path / "a") not in await changes.batch()


async def test_a_folder_below_counts_only_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    async with observe({str(tmp_path): False}) as changes:
        (tmp_path / "deep" / "unseen").write_text("1")
        changes.watch({str(tmp_path): True})
        (tmp_path / "deep" / "seen").write_text("1")
        async with asyncio.timeout(20):
            batch = await changes.batch()
    assert str(tmp_path / "deep" / "seen") in batch
    assert str(tmp_path / "deep" / "unseen") not in batch


async def test_what_git_changes_is_one_batch_however_long_it_pauses(tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    repository = Repository.around(tmp_path)
    assert repository is not None
    # As git does for as long as it changes the working tree (api-lockfile.h).
    repository.index_lock.touch(exist_ok=False)
    async with observe({str(tmp_path): False}, repository.index_lock) as changes:
        (tmp_path / "a").write_text("2")
        batch = asyncio.ensure_future(changes.batch())
        done, _ = await asyncio.wait([batch], timeout=20 * quiet(1))
        assert not done
        (tmp_path / "b").write_text("3")
        repository.index_lock.unlink()
        async with asyncio.timeout(20):
            assert {str(tmp_path / "a"), str(tmp_path / "b")} <= await batch


async def test_what_comes_and_goes_meanwhile_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("1")
    async with observe({str(tmp_path): False}) as changes:
        (tmp_path / "sed1").write_text("2")
        (tmp_path / "sed1").rename(tmp_path / "page")
        async with asyncio.timeout(20):
            batch = await changes.batch()
        assert str(tmp_path / "page") in batch
        assert str(tmp_path / "sed1") not in batch
        (tmp_path / "4913").touch()
        (tmp_path / "4913").unlink()
        later = asyncio.ensure_future(changes.batch())
        done, _ = await asyncio.wait([later], timeout=20 * quiet(1))
        assert not done
        (tmp_path / "page").unlink()
        async with asyncio.timeout(20):
            assert str(tmp_path / "page") in await later
