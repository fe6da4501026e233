"""A small file of a stranger is read whole, bounded, or refused in one line."""

import os
from pathlib import Path

import pytest

from onmodel import reading
from onmodel.errors import InputError
from onmodel.hashing import append_json_lines, read_json_lines

DEEP = {"toml": "a = " + "[" * 5_000 + "]" * 5_000, "json": "[" * 200_000, "yaml": "[" * 20_000}
READERS = {
    "toml": reading.read_toml,
    "json": reading.read_json_of_others,
    "yaml": reading.read_yaml,
}


@pytest.mark.parametrize("form", DEEP)
@pytest.mark.parametrize("text", ["deep", "levels", "bytes", "broken"])
def test_what_is_too_deep_or_broken_is_one_line(form: str, text: str, tmp_path: Path) -> None:
    levels = "[" * 80 + "]" * 80
    data = {
        "deep": DEEP[form],
        "levels": f"a = {levels}" if form == "toml" else levels,
        "broken": '{"a": ',
    }
    path = tmp_path / f"x.{form}"
    path.write_bytes(b"\xff\xfe\0" if text == "bytes" else data[text].encode())
    with pytest.raises(InputError, match=r"^recipe: "):
        READERS[form](path, "recipe")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"b": [{"a": 1, "\\u0061": 2}]}', '{"": 1, "": 2}']
)
def test_a_key_that_stands_twice_is_refused_since_readers_take_either(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="stands twice in a table"):
        reading.read_json_of_others(tmp_path / "x.json", "proof")


def test_many_values_behind_few_bytes_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="more than 2000000 values"):
        reading.read_yaml(path, "dataset_config")


@pytest.mark.parametrize(
    "kind", ["device", "pipe", "folder", "missing", "large", "loop", "long", "null"]
)
def test_only_a_regular_file_of_a_fair_size_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"x" * 101)
    elif kind == "loop":
        path.symlink_to(path)
    found = {"device": Path("/dev/zero"), "long": tmp_path / ("x" * 300), "null": Path("a\0b")}.get(
        kind, path
    )
    with pytest.raises(InputError, match=r"^character: "):
        reading.read_bytes(found, "character", most=100)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert reading.read_toml(path, "recipe") == {"a": 1}


def test_lines_of_json_hold_any_text(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    rows = [{"why": "a\u2028b\u0085c\x0bd\n"}, {"why": "\udc80"}]
    append_json_lines(path, rows[:1])
    with path.open("ab") as file:
        file.write(b'{"half')
    append_json_lines(path, rows[1:])
    assert read_json_lines(path) == rows


def test_a_path_in_json_is_told_with_a_cure_that_json_allows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(r'{"path": "C:\Users\me"}')
    with pytest.raises(InputError, match=r"write the path with /$"):
        reading.read_json_of_others(tmp_path / "a.json", "file")
