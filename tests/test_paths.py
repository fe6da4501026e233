"""A name of a stranger becomes a file inside its folder, or one line that says why not."""

from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.paths import check_distinct, check_name, inside

LEADING_OUT = [
    "../x",
    "a/../../x",
    "/tmp/x",
    "\\tmp\\x",
    "\\\\tmp\\x",
    "C:\\x",
    "C:x",
    "..",
    ".",
    "a/./b",
    "a//b",
    "~/x",
    "-rf",
    ".hidden",
]
UNWRITABLE = [
    "",
    " ",
    "a ",
    " a",
    "a.",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "a\u2028b",
    "a\u202eb",
    "\udc80",
    "a:b",
    "a?",
    "a*",
    "a|b",
    "<a>",
    "con",
    "NUL.png",
    "Com1.txt",
    "lpt9",
    "aux .png",
    "x" * 121,
    "é" * 61,
]


@pytest.mark.parametrize("name", LEADING_OUT + UNWRITABLE)
def test_a_name_that_is_no_plain_file_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_name(name, "stages")
    assert str(caught.value).isprintable() and str(caught.value).startswith("stages: ")


@pytest.mark.parametrize(
    "name", ["release_2", "トレーニング", "a.b", "x" * 120, "console", "ни-что", "می‌خواهم"]
)
def test_a_plain_name_passes(name: str) -> None:
    assert check_name(name, "stages") == name


@pytest.mark.parametrize("name", LEADING_OUT)
def test_nothing_leads_out_of_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        inside(tmp_path, name, "zip")


def test_parts_of_a_name_stay_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "10_girl/001.png", "zip") == tmp_path / "10_girl" / "001.png"


def test_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="link"):
        inside(tmp_path / "in", "link/x", "zip")


@pytest.mark.parametrize(
    "names", [("Coat", "coat"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")]
)
def test_names_that_are_one_file_elsewhere_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="one file"):
        check_distinct(names, "outfits")
