from __future__ import annotations

import pytest

from compose.client.tables import aligned, show
from compose.client.template import parse_template
from compose.errors import UsageError

WEB = {
    "State": {"Running": True, "Code": 0},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None},
    "Names": ["a", "b"],
    "Labels": {"role": "x", "n": ""},
    "Size": 5,
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.State.Running}} {{json .Names}}", 'true ["a","b"]'),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        (
            "{{range $port, $to := .Ports}}{{$port}}"
            "{{if $to}}={{(index $to 0).HostPort}}{{end}};{{end}}",
            "80/tcp=8080;81/tcp;",
        ),
        ("{{range $i, $name := .Names}}{{$i}}{{$name}}{{end}}", "0a1b"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Names}}<{{.}}{{$.Size}}>{{end}}", "<a5><b5>"),
        ('{{join .Names ","}} {{upper "x"}} {{.Names}} {{.Labels}}', "a,b X [a b] map[n: role:x]"),
        ("{{.Labels.role}} {{.Labels.other}} {{.Nothing}}", "x <no value> <no value>"),
        ("{{if eq .Size 4}}a{{else if .State.Running}}b{{else}}c{{end}}", "b"),
        ("{{if and .Names (not .State.Running)}}a{{else}}b{{end}}", "b"),
        ("{{with .Labels}}{{.role}}{{end}}{{with .Nothing}}x{{else}}y{{end}}", "xy"),
        ('a  {{- " b " -}}  c {{/* no */}}d', "a b c d"),
        ('{{.Names | len | printf "%03d"}} {{printf "%-4s|%q" "a" "x"}}', '002 a   |"x"'),
        ('{{println .Size "x"}}{{$x := .Size}}{{$x}}', "5 x\n5"),
        ("{{or .Nothing .Size}} {{and 0 .Nosuch}} {{ge .Size 5}} {{slice `abc` 1}}", "5 0 true bc"),
        ("no action", "no action"),
    ],
)
def test_templates_say_what_go_says(text: str, shown: str) -> None:
    assert parse_template(text).render(WEB) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{.Nosuch}}", "there is no .Nosuch; there are: State, Ports"),
        ("{{nosuch .Size}}", "there is no function 'nosuch'; there are: and, eq"),
        ("{{if .Size}}", "{{if}} has no {{end}}"),
        ("{{end}}", "{{end}} without"),
        ("{{else}}", "{{else}} without"),
        ("{{.Size", "}} is missing"),
        ("{{}}", "an action is empty"),
        ('{{template "x"}}', "{{template}} is not supported"),
        ("{{index .Names 7}}", "index 7 is beyond the 2"),
        ("{{$nosuch}}", "the variable $nosuch isn't set"),
        ("{{.Size .Size}}", "only functions take arguments"),
        ("{{.Size | }}", "something is missing"),
        ("{{(.Size}}", "a ) is missing"),
        ("{{len .Size}}", "5 has no length"),
        ("{{upper .Size}}", "upper can't take that"),
        ("{{.Size % 2}}", "unexpected '% 2'"),
    ],
)
def test_what_is_beyond_the_templates_is_told(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_template(text).render(WEB)
    assert reason in str(caught.value)


def test_tables_have_dockers_widths() -> None:
    assert aligned(["A\tB\tC", "longer text\tb\t"]) == "A             B         C\nlonger text   b"


ROWS = [
    {"ID": "1", "Name": "one", "ExitCode": 0, "Label": lambda name: f"<{name}>"},
    {"ID": "2", "Name": "two", "ExitCode": 3, "Label": lambda name: f"<{name}>"},
]


@pytest.mark.parametrize(
    ("format", "quiet", "text"),
    [
        ("", "", "THE ID    NAME\n1         one\n2         two"),
        ("table", "ID", "1\n2"),
        (r'table {{.Name}}\t{{.Label "a.b"}}', "", "NAME      b\none       <a.b>\ntwo       <a.b>"),
        ("json", "", '{"ExitCode":0,"ID":"1","Name":"one"}\n{"ExitCode":3,"ID":"2","Name":"two"}'),
        ("{{.ID}}", "ID", "1\n2"),
        ("table {{.Name}} {{.ExitCode}}", "", "NAME EXIT CODE\none 0\ntwo 3"),
    ],
)
def test_formats(format: str, quiet: str, text: str) -> None:
    titles, columns = {"ID": "THE ID"}, ("ID", "Name")
    assert show(ROWS, format, titles=titles, columns=columns, quiet=quiet) == text


def test_a_line_of_json_is_escaped_as_dockers_is_and_a_templates_json_is_not() -> None:
    row = {"Name": "<a>&b"}
    assert show([row], "json") == r'{"Name":"\u003ca\u003e\u0026b"}'
    assert show([row], "{{json .Name}}") == '"<a>&b"'
