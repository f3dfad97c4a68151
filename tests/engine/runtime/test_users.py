from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.users import Identity, UnknownUser, resolve

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
web:x:33:34:web:/var/www:/bin/sh
1000:x:7:7:a name of digits:/seven:/bin/sh
nohome:x:50:50
"""
GROUP = """\
root:x:0:
web:x:34:
mail:x:8:web,other
audio:x:29:web
"""


def test_no_user_is_root() -> None:
    assert resolve("", (), PASSWD, GROUP) == Identity(0, 0, (0,), "/root")


def test_name_brings_its_groups_and_home() -> None:
    assert resolve("web", (), PASSWD, GROUP) == Identity(33, 34, (34, 8, 29), "/var/www")


def test_number_is_a_uid_even_if_it_is_somebodys_name() -> None:
    # CVE-2016-3697
    assert resolve("1000", (), PASSWD, GROUP) == Identity(1000, 0, (0,), "/")


def test_number_of_an_account_is_that_account() -> None:
    assert resolve("33", (), PASSWD, GROUP).gid == 34


def test_named_group_leaves_the_account_only_that() -> None:
    assert resolve("web:mail", (), PASSWD, GROUP) == Identity(33, 8, (8,), "/var/www")
    assert resolve("5:6", (), PASSWD, GROUP) == Identity(5, 6, (6,), "/")


def test_extra_groups_are_added_by_name_or_number() -> None:
    assert resolve("5:6", ("audio", "77"), PASSWD, GROUP).groups == (6, 29, 77)


def test_account_of_few_fields_has_the_root_as_home() -> None:
    assert resolve("nohome", (), PASSWD, GROUP).home == "/"


@pytest.mark.parametrize("user", ["nobodyhere", "web:nogroup", "-1", "2147483648", "0:2147483648"])
def test_unknown_or_out_of_range_is_refused(user: str) -> None:
    with pytest.raises(UnknownUser):
        resolve(user, (), PASSWD, GROUP)


def test_number_below_zero_is_out_of_range() -> None:
    with pytest.raises(UnknownUser, match="must be in range"):
        resolve("-1", (), PASSWD, GROUP)


@given(user=st.text(), passwd=st.text(), group=st.text())
def test_no_file_breaks_it(user: str, passwd: str, group: str) -> None:
    try:
        identity = resolve(user, (), passwd, group)
    except UnknownUser:
        return
    assert 0 <= identity.uid < 2**31
    assert 0 <= identity.gid < 2**31
