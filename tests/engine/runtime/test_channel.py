from __future__ import annotations

import os

import pytest

from engine.runtime import channel


def test_message_and_descriptors_arrive_together() -> None:
    ours, theirs = channel.pair()
    reading, writing = os.pipe()
    with ours, theirs:
        channel.send(ours, {"a": [1, "ü"]}, (writing,))
        os.close(writing)
        message = channel.receive(theirs)
    assert message is not None
    assert message.body == {"a": [1, "ü"]}
    (received,) = message.descriptors
    assert not os.get_inheritable(received)
    os.write(received, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(received)
    os.close(reading)


def test_last_words_of_a_side_that_did_not_read_ours_are_heard() -> None:
    ours, theirs = channel.pair()
    with ours:
        channel.send(ours, {"go": True})
        channel.send(theirs, {"state": "refused"})
        theirs.close()
        message = channel.receive(ours)
        assert message is not None
        assert message.body == {"state": "refused"}
        assert channel.receive(ours) is None


def test_long_documents_travel_sealed() -> None:
    content = os.urandom(1 << 20)
    descriptor = channel.write_document(content)
    with pytest.raises(PermissionError):
        os.write(descriptor, b"x")
    assert os.pread(descriptor, len(content) + 1, 0) == content
    os.close(descriptor)
