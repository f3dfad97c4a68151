from pathlib import Path

from engine.kernel.libc import give_back_memory

_SIZE = 65536
_COUNT = 512


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_freed_memory_is_given_back() -> None:
    blocks = [b"x" * _SIZE for _ in range(_COUNT)]
    last = b"x" * _SIZE  # above them: by itself the C library gives back only the end of its heap
    blocks.clear()
    before = resident()
    give_back_memory()
    assert before - resident() > _SIZE * _COUNT // 2
    assert len(last) == _SIZE
