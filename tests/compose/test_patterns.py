from __future__ import annotations

import pytest

from compose.patterns import matches, parse


@pytest.mark.parametrize(
    ("texts", "path", "found"),
    [
        (["*.pyc"], "a.pyc", True),
        (["*.pyc"], "sub/a.pyc", False),
        (["**/*.pyc"], "sub/deep/a.pyc", True),
        (["**/*.pyc"], "a.pyc", True),
        (["node_modules"], "node_modules/x/index.js", True),
        (["node_modules/"], "node_modules/x/index.js", True),
        (["/build"], "build/out", True),
        (["src/**"], "src/a/b", True),
        (["src/**/test"], "src/a/b/test", True),
        (["src/**/test"], "src/test", True),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
        (["[a-c].txt"], "b.txt", True),
        (["[a-c].txt"], "d.txt", False),
        (["*.md", "!README.md"], "README.md", False),
        (["*.md", "!README.md"], "other.md", True),
        (["!README.md", "*.md"], "README.md", True),
        (["# comment", ""], "# comment", False),
        (["a.b"], "axb", False),
        (["name\nwith"], "name\nwith", True),
    ],
)
def test_patterns_match_as_in_dockerignore(texts: list[str], path: str, found: bool) -> None:
    parsed = [pattern for text in texts if (pattern := parse(text))]
    assert matches(parsed, path) is found
