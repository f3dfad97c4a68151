import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.load.dotenv import BadEnvFile, parse_env, parse_raw

ENVIRONMENT = {"SHELL_VAR": "from the shell"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("export=1", {"export": "1"}),
        ("A: 1", {"A": "1"}),
        ("  A = 1  ", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=a b  c ", {"A": "a b  c"}),
        ("# comment\n\n  # more\nA=1", {"A": "1"}),
        ("A=1 # comment", {"A": "1"}),
        ("A=1#no", {"A": "1#no"}),
        ("A= # comment", {"A": ""}),
        ("A=x=y:z", {"A": "x=y:z"}),
        ("a.b-c[0]=1", {"a.b-c[0]": "1"}),
        ("A='x y' # c", {"A": "x y"}),
        ("A='$B ${C}'", {"A": "$B ${C}"}),
        ("A='it\\'s'", {"A": "it's"}),
        ("A='one\ntwo'\nB=1", {"A": "one\ntwo", "B": "1"}),
        ('A="one\\ntwo"', {"A": "one\ntwo"}),
        ('A="one\ntwo"\nB=1', {"A": "one\ntwo", "B": "1"}),
        ('A="a \\"b\\" \\\\ \\$X"', {"A": 'a "b" \\ $X'}),
        ('A="\\0101"', {"A": "A"}),
        ('A="x # y"', {"A": "x # y"}),
        ("A=1\nB=${A}2", {"A": "1", "B": "12"}),
        ("A=$SHELL_VAR", {"A": "from the shell"}),
        ("SHELL_VAR=file\nA=$SHELL_VAR", {"SHELL_VAR": "file", "A": "from the shell"}),
        ("A=${NONE:-d}", {"A": "d"}),
        ("A=$$x", {"A": "$x"}),
        ('A="${NONE:-d} $$"', {"A": "d $"}),
        ("SHELL_VAR", {"SHELL_VAR": "from the shell"}),
        ("NONE", {}),
        ("A=1\nA=2", {"A": "2"}),
        ("", {}),
    ],
)
def test_an_env_file_holds(text: str, values: dict[str, str]) -> None:
    assert parse_env(text, ENVIRONMENT).values() == values


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A=1\nB C=2", 2, '"B C" can\'t be the name of a variable'),
        ("=1", 1, "a name is missing before the ="),
        ("A=1\n\nB='x\ny", 3, "the quote that opens the value of B is never closed"),
        ("A=${X", 1, 'A: "${X" is never closed'),
        ("A=${X:?set it}", 1, "A: the variable X must be set: set it"),
    ],
)
def test_a_fault_is_told_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(BadEnvFile) as error:
        parse_env(text, {})
    assert (error.value.faults[0].line, error.value.faults[0].what) == (line, what)


def test_all_faults_are_told() -> None:
    with pytest.raises(BadEnvFile) as error:
        parse_env("A B=1\nC=2\nD E=3\n", {})
    assert [fault.line for fault in error.value.faults] == [1, 3]


def test_missing_variables_are_reported_with_their_line() -> None:
    assert parse_env("A=1\nB=$NONE", {}).unset == (("NONE", 2),)


def test_a_raw_file_is_taken_as_it_is() -> None:
    text = "A='x' # $Y\n# comment\nB=a=b \nSHELL_VAR\nNONE\n"
    assert parse_raw(text, ENVIRONMENT).values() == {
        "A": "'x' # $Y",
        "B": "a=b ",
        "SHELL_VAR": "from the shell",
    }


_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
_texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(_names, _texts, max_size=4))
def test_single_quotes_bring_any_text_through(values: dict[str, str]) -> None:
    # A backslash before the closing quote would escape it; double quotes are for such text.
    values = {name: text.replace("\\", "/") for name, text in values.items()}
    lines = [f"{name}='" + text.replace("'", "\\'") + "'" for name, text in values.items()]
    assert parse_env("\n".join(lines), {}).values() == values


@given(st.dictionaries(_names, _texts, max_size=4))
def test_double_quotes_bring_any_text_through(values: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")

    lines = [f'{name}="{quoted(text)}"' for name, text in values.items()]
    assert parse_env("\n".join(lines), {}).values() == values
