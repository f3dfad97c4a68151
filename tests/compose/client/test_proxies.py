from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose.client.errors import ClientError
from compose.client.proxies import ProxyVariables

ENGINE = "unix:///run/e.sock"


def variables(folder: Path, document: object) -> ProxyVariables:
    (folder / "config.json").write_text(json.dumps(document))
    return ProxyVariables({"DOCKER_CONFIG": str(folder)}, ENGINE)


def test_a_container_gets_what_it_is_not_given(tmp_path: Path) -> None:
    found = variables(tmp_path, {"proxies": {"default": {"httpProxy": "http://p", "other": "x"}}})
    assert found.in_body({"Env": ["A=1", "http_proxy"]})["Env"] == [
        "A=1",
        "http_proxy",  # asked for as the image has it
        "HTTP_PROXY=http://p",
    ]
    assert found.in_body({})["Env"] == ["HTTP_PROXY=http://p", "http_proxy=http://p"]


def test_an_engine_may_have_its_own(tmp_path: Path) -> None:
    proxies = {"default": {"noProxy": "a"}, ENGINE: {"noProxy": "b", "httpsProxy": ""}}
    found = variables(tmp_path, {"proxies": proxies})
    assert found.variables() == {"NO_PROXY": "b", "no_proxy": "b"}


def test_a_build_gets_arguments(tmp_path: Path) -> None:
    found = variables(tmp_path, {"proxies": {"default": {"ftpProxy": "f"}}})
    asked = found.in_query({"t": "x", "buildargs": '{"FTP_PROXY": null}'})
    assert json.loads(str(asked["buildargs"])) == {"FTP_PROXY": None, "ftp_proxy": "f"}
    assert json.loads(str(found.in_query({})["buildargs"])) == {"FTP_PROXY": "f", "ftp_proxy": "f"}


def test_without_any_nothing_changes(tmp_path: Path) -> None:
    found = variables(tmp_path, {})
    assert found.in_body({"Image": "x"}) == {"Image": "x"}
    assert found.in_query({"t": "x"}) == {"t": "x"}


def test_a_file_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"cannot use the proxies in .*config\.json"):
        variables(tmp_path, {"proxies": {"default": {"httpProxy": 1}}}).variables()
