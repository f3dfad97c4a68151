from __future__ import annotations

import io
import tarfile

from compose.apply.deliver import given_files, make_tar
from compose.plan.actions import FileCopy


def test_the_tar_carries_owner_mode_and_content() -> None:
    files = [FileCopy("/run/secrets/key", b"text", 10, 20, 0o440)]
    with tarfile.open(fileobj=io.BytesIO(make_tar(files, modified=5))) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.uid, entry.gid, entry.mode, entry.mtime) == (
            "run/secrets/key", 10, 20, 0o440, 5
        )  # fmt: skip
        read = tar.extractfile(entry)
        assert read is not None
        assert read.read() == b"text"


def test_a_request_carries_them_for_an_engine_that_places_them() -> None:
    assert given_files([FileCopy("/run/secrets/key", b"\xff", 10, 20, 0o440)]) == [
        {"Target": "/run/secrets/key", "Content": "/w==", "UID": 10, "GID": 20, "Mode": 0o440}
    ]
