"""Dockerfiles as text: instructions, expansion, stages, ignore patterns."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.builder.copy import parse_mode
from engine.builder.dockerfile import Flag, exec_form, parse_dockerfile
from engine.builder.expand import expand_word, expand_words, split_words
from engine.builder.ignore import is_ignored, parse_ignore
from engine.builder.stages import make_plan
from engine.errors import InvalidRequest


def test_lines_go_on_and_comments_in_them_do_not_count() -> None:
    text = "# comment\nFROM a\n\nRUN one \\\n  # inside\n\n  two \\  \n three\nCMD x\n"
    found = parse_dockerfile(text.encode()).instructions
    assert [(one.keyword, one.line) for one in found] == [("FROM", 2), ("RUN", 4), ("CMD", 9)]
    assert found[1].arguments == "one   two  three"


def test_the_escape_directive() -> None:
    text = "# escape=`\nFROM a\nRUN dir C:\\ `\n more\n"
    parsed = parse_dockerfile(text.encode())
    assert parsed.escape == "`"
    assert parsed.instructions[1].arguments == "dir C:\\  more"
    # After a comment it is a comment itself.
    assert parse_dockerfile(b"# note\n# escape=`\nFROM a\n").escape == "\\"
    with pytest.raises(InvalidRequest, match="only one escape parser directive"):
        parse_dockerfile(b"# escape=`\n# escape=`\nFROM a\n")


def test_an_escaped_escape_ends_a_line() -> None:
    found = parse_dockerfile(b"FROM a\nRUN echo \\\\\nCMD x\n").instructions
    assert [one.keyword for one in found] == ["FROM", "RUN", "CMD"]


def test_the_syntax_directive() -> None:
    for own in ("docker/dockerfile:1", "mirror.example:5000/docker/dockerfile:1.7-labs"):
        assert parse_dockerfile(f"# syntax={own}\nFROM a\n".encode()).instructions
    with pytest.raises(InvalidRequest, match="line 1: cannot read the syntax other/frontend:2"):
        parse_dockerfile(b"# syntax=other/frontend:2\nFROM a\n")


def test_flags_are_taken_off() -> None:
    text = (
        b"FROM a\nRUN --mount=type=bind,target=/x --network=none cmd --not=flag\nCOPY --link a b\n"
    )
    _, run, copy = parse_dockerfile(text).instructions
    assert run.flags == (Flag("mount", "type=bind,target=/x"), Flag("network", "none"))
    assert run.arguments == "cmd --not=flag"
    assert copy.flags == (Flag("link", None),)


def test_heredocs() -> None:
    text = "FROM a\nRUN <<EOF cat <<-'X' > /y\none $A\nEOF\n\ttwo\n\tX\nCMD z\n"
    _, run, cmd = parse_dockerfile(text.encode()).instructions
    assert [(one.name, one.content, one.expand) for one in run.heredocs] == [
        ("EOF", "one $A\n", True),
        ("X", "two\n", False),
    ]
    assert cmd.line == 7
    # Quotes around any part of the name count, and it may be any word.
    _, run = parse_dockerfile(b"FROM a\nRUN 3<<E'O 'F cat\n$A\nEO F\n").instructions
    assert [(one.name, one.expand) for one in run.heredocs] == [("EO F", False)]
    # Neither a shift in the shell nor a text in quotes is one.
    assert parse_dockerfile(b"FROM a\nRUN echo $((1<<2)) '<<EOF'\n").instructions[1].heredocs == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a", "b c"]', ("a", "b c")),
        ("[]", ()),
        ("['a']", None),
        ('["a", 1]', None),
        ("[ -f x ] && y", None),
    ],
)
def test_exec_form(text: str, words: tuple[str, ...] | None) -> None:
    assert exec_form(text) == words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "one"),
        ("${A}x", "onex"),
        ("$Ax", ""),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        ('"\\$A\\n"', "$A\\n"),
        ("${A:-two}", "one"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY-two}", ""),
        ("${NONE-${A}}", "one"),
        ("${A:+two}", "two"),
        ("${EMPTY:+two}", ""),
        ("${EMPTY+two}", "two"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P/\\//_}", "a_b/c.tar.gz"),
        ("${P//\\//_}", "a_b_c.tar.gz"),
        ("${A/o?/x}", "xe"),
        ("${S#\\**}", "a?b*"),
        ("${S%\\*}", "*a?b"),
        ("${S//\\?/\\/}", "*a\\/b*"),
        ("${999:-none}$12x", "nonex"),
        ("end\\", "end"),
        ("$", "$"),
        ("a$.b", "a$.b"),
    ],
)
def test_expansion(word: str, expected: str) -> None:
    names = {"A": "one", "EMPTY": "", "P": "a/b/c.tar.gz", "S": "*a?b*"}
    assert expand_word(word, names) == expected


@pytest.mark.parametrize(
    "word", ["${A", "${}", "${A:}", "${A^}", "'x", '"x', "${NONE:?said}", "${A#\\x}"]
)
def test_what_cannot_be_expanded(word: str) -> None:
    with pytest.raises(InvalidRequest):
        expand_word(word, {"A": "one"})


def test_words_keep_together_what_is_quoted() -> None:
    assert expand_words('a "b c" d\\ e $X', {"X": "y z"}) == ("a", "b c", "d e", "y z")


@given(st.text(st.characters(exclude_characters="$\\'\"", exclude_categories=["Cs"])))
def test_a_text_without_signs_stays(text: str) -> None:
    assert expand_word(text, {}) == text


@given(st.text(max_size=40))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        for word in split_words(text):
            expand_word(word, {"A": "b"})
    except InvalidRequest:
        pass


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        make_plan(parse_dockerfile(b"FROM a\nRUN " + content), {}, {})


def test_only_needed_stages() -> None:
    text = b"""\
ARG BASE=image
FROM $BASE AS one
FROM one AS two
FROM other AS unused
FROM scratch AS four
COPY --from=two /a /b
RUN --mount=from=0,target=/x y
FROM four
"""
    plan = make_plan(parse_dockerfile(text), {"BASE": "given"}, {})
    assert [stage.base for stage in plan.stages[:2]] == ["given", "one"]
    assert [stage.index for stage in plan.needed(plan.target(""))] == [0, 1, 3, 4]
    assert [stage.index for stage in plan.needed(plan.target("two"))] == [0, 1]
    text = b"FROM a AS one\nCOPY --from=two / /\nFROM b AS two\nFROM c\nCOPY --from=one / /\n"
    later = make_plan(parse_dockerfile(text), {}, {})
    assert [stage.index for stage in later.needed(later.target(""))] == [1, 0, 2]
    with pytest.raises(InvalidRequest, match='target stage "x" could not be found'):
        plan.target("x")


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("*.log", ["a.log"], ["d/a.log", "log"]),
        ("**/*.log", ["a.log", "d/e/a.log"], ["a.logs"]),
        ("d", ["d", "d/a"], ["dd"]),
        ("/d/", ["d", "d/a"], ["e/d"]),
        ("*\n!keep", ["a"], ["keep", "keep/in"]),
        ("d\n!d/keep", ["d/a"], ["d/keep"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax"], ["dx"]),
        ("# a", [], ["a", "# a"]),
        ("./x/../y", ["y"], ["x"]),
    ],
)
def test_ignore_patterns(patterns: str, ignored: list[str], kept: list[str]) -> None:
    parsed = parse_ignore(patterns)
    assert [path for path in (*ignored, *kept) if is_ignored(parsed, path)] == ignored


@pytest.mark.parametrize(
    ("text", "before", "folder", "after"),
    [
        ("640", 0o755, False, 0o640),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("a+x", 0o644, False, 0o755),
        ("go-rwx", 0o777, True, 0o700),
        ("+t", 0o777, True, 0o1777),
        ("o+t", 0o777, True, 0o777),
        ("u=rwX,go=rX", 0o6755, False, 0o755),
        ("u=rwX,go=rX", 0o2775, True, 0o2755),
    ],
)
def test_modes(text: str, before: int, folder: bool, after: int) -> None:
    change, _ = parse_mode(text)
    assert change(before, folder) == after


def test_a_mode_that_is_none() -> None:
    for text in ("", "888", "77777", "u=z", "x"):
        with pytest.raises(InvalidRequest):
            parse_mode(text)
