import pytest

from compose.cli.template import templated
from compose.errors import UsageError

ROWS = [
    {"Name": "web-1", "State": "running", "Publishers": [{"TargetPort": 80}], "ExitCode": 0},
    {"Name": "db-1", "State": "exited", "Publishers": [], "ExitCode": 3},
]


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("{{.Name}}", "web-1\ndb-1"),
        ("{{ .Name }}: {{upper .State}} ({{.ExitCode}})", "web-1: RUNNING (0)\ndb-1: EXITED (3)"),
        ("{{json .Publishers}}", '[{"TargetPort":80}]\n[]'),
        ("{{.State | lower}}", "running\nexited"),
        ("{{len .Publishers}}", "1\n0"),
        (r"{{.Name}}\t{{.State}}", "web-1\trunning\ndb-1\texited"),
        ("table {{.Name}}\t{{.ExitCode}}", "NAME    EXIT CODE\nweb-1   0\ndb-1    3"),
    ],
)
def test_rows_are_written_as_the_template_says(format: str, expected: str) -> None:
    assert templated(format, ROWS) == expected


@pytest.mark.parametrize("format", ["{{.Nmae}}", "{{range .}}", "{{if .Name}}x{{end}}"])
def test_what_cannot_be_filled_is_told(format: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        templated(format, ROWS)
