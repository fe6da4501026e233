"""Folders of a machine are found by their form in any text, and taken out of every header that
onmodel writes."""

import json
import time
from pathlib import Path

import pytest

from onmodel.lora import header
from onmodel.lora.author_paths import author_paths, without_author_paths
from onmodel.lora.convert import convert
from onmodel.lora.tensors import write_lora
from onmodel.release.check import check
from onmodel.weights import read_metadata
from tests.support.lora_layouts import FACTS, history, random_lora

PATHS = [
    r"D:\loras\x",
    r'{"image_dir": "C:\\Users\\me"}',
    "/home/someone/x, /mnt/d/y",
    "~/data/x",
    r"\\nas\share",
    "/Volumes/SSD/x",
    "/runpod-volume/train",
    "/workspace/x",
    r"..\..\x",
    r"%USERPROFILE%\x",
    "$HOME/x",
    "${HOME}/x",
    "~/x",
    "C:/Users",
    r"\\server\share",
    "file:///home/x",
    "/kaggle/working",
    "/content/drive/MyDrive",
    r"C:\\Users",
    "dir=/app/x",
    "/Volumes/My Disk/x",
    "--data_dir /gdrive/MyDrive/x --x 1",
    "output:/workspace/out",
    "file://nas/share/x",
    "smb://nas/share",
    "/c/Users/me",
    "//NAS/share/x",
    r"\\wsl$\Ubuntu\home",
    r"\\?\C:\x",
    "{'image_dir': '/teamspace/x'}",
    json.dumps({"a": json.dumps({"d": r"\\nas\share\x"})}),
    json.dumps([{"subsets": [{"image_dir": "/notebooks/a b/c"}]}]),
    "保存/home/me/x",
    "me@host:/srv/x",
    "$env:USERPROFILE\\x",
    "(/scratch/me/x)",
    "`/export/home/x`",
    "../../someone/train",
    "../someone/train",
    r'"C:\\Users\\me"',
    "a\n/net/home/x",
    "/home/me",
    "/home/.cache",
    "D:\\训练\\角色",
    "/数据/训练",
    "cp /a/b /c/d",
    "E:/a",
    "/Users/Jane Doe/x",
    "<b>/home/me/x</b>",
    "~me/train",
    "/users/someone/x",
    "path|/ephemeral/x",
]
TEXTS = [
    "https://civitai.com/models/1/x",
    "1024/768",
    "and/or",
    "2026/11/30",
    "image/png",
    "score_9/score_8",
    "circlestone-labs/Anima",
    "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJ",
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBD",
    "w/ hat",
    "16/9",
    "him/her",
    "a: b",
    "and/or, 1/2, images/one.png",
    ":/",
    ">:/",
    "d:/, smile",
    "D: ",
    "1girl, :d, /m/, \\m/",
    "o/ \\o/",
    "|/o/|",
    "</p></b>",
    "<br />",
    "https://x.y/?p=/a/b/c",
    "https://huggingface.co/data/x",
    "http://localhost:8080/a/b",
    "s3://bucket/a/b",
    "gs://b/c/d",
    "hf://a/b",
    "https:\\/\\/x.y\\/a\\/b",
    "男/女/其他",
    "..., /x",
    ".../no",
    "50%/50%",
    "$5/month",
    "black/white/red",
    "red / blue / green",
    "[x](https://a.b/c/d)",
    "miku \\(cosplay\\), a \\(b\\)",
    json.dumps({"a": "line1\nline2\nline3"}),
    json.dumps(json.dumps({"\u30d5\u30a1": 1})),
    json.dumps({"フ/ァ": {"イ": 1}}),
    "1/2/3",
    "12:30/13:00",
    "networks.lora",
    "(12, 16)",
    "anima-base-v1.0/lora",
    "km/h",
    "n/a",
    "//comment here",
    "// see x/y",
    "a/b/c",
    "./x/y",
    "images/a/b.png",
    "../x",
    "[card](../README.md)",
    "v1.0/final",
    "TCP/IP",
    "either/or; w/o; c/o",
    "<lora:x/y:0.8>",
    "^_^/",
    "\\(^o^)/",
    "(/ω＼)",
    "/v/, /a/, /k/-chan",
    "sha256-ab/cd+/ef/gh==",
    "iVBORw0KGgo/AA/BB+/CC/DD",
    "0.5/1.0",
    "git+https://a.b/c/d",
    "mailto:a@b/c",
    "1/4 /2",
    "\\n\\nfoo",
    "#/components/schemas/x",
]
SLOW = [
    "/a",
    "\\",
    "a:",
    "~",
    "../",
    "$a",
    "%a",
    "/a ",
    "C:/a C",
    "[",
    "\\\\a",
    "A",
    "file:",
    "http:",
    "abc-",
    "data:",
    "//a",
    "a.",
    '{"a":',
    "/a/b ",
]


@pytest.mark.parametrize("text", PATHS)
def test_a_path_is_found_and_taken_out(text: str) -> None:
    for said in (
        text,
        f"x, {text}",
        json.dumps({"ss_datasets": [{text: 1, "a": text}]}),
        json.dumps(json.dumps([text])),
    ):
        assert author_paths(said), said
        assert not author_paths(without_author_paths(said)), said


@pytest.mark.parametrize("text", TEXTS)
def test_what_only_has_slashes_is_no_path_and_stays_as_it_is(text: str) -> None:
    for said in (text, json.dumps({"ss_tag_frequency": {"a": {text: 1}}})):
        assert author_paths(said) == []
        assert without_author_paths(said) == said


def test_of_a_path_its_last_part_stays() -> None:
    assert without_author_paths(r"C:\Users\me\anima.safetensors") == "anima.safetensors"
    assert without_author_paths("/Volumes/My Disk/anima v1.safetensors") == "anima v1.safetensors"
    assert without_author_paths("--config=/home/me/x.toml --rank 4") == "--config=x.toml --rank 4"
    assert without_author_paths('{"dir": "D:\\\\x\\\\角色", "n": 3}') == '{"dir": "角色", "n": 3}'


def test_at_most_three_paths_are_named_each_of_bounded_length() -> None:
    found = author_paths(", ".join(f"/home/me{i}/{'x' * 9_000}" for i in range(9)))
    assert len(found) == 3 and all(len(path) <= 80 for path in found)


@pytest.mark.parametrize("text", SLOW)
def test_no_text_takes_long(text: str) -> None:
    begin = time.perf_counter()
    without_author_paths(text * 50_000)
    assert time.perf_counter() - begin < 5


def test_no_path_enters_a_header_that_onmodel_writes(tmp_path: Path) -> None:
    words = header.build(
        FACTS, history(), ss_note="/runpod-volume/train", ss_args='{"dir": "D:\\\\train"}'
    )
    assert words["ss_note"] == "train" and words["ss_args"] == '{"dir": "train"}'
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_lora(
        path,
        random_lora(),
        {"ss_note": "/runpod-volume/train", "ss_x": "1/2", "modelspec.author": "~/me"},
    )
    found = [row for row in check(path) if "names a folder" in row.text]
    assert [row.text.split()[0] for row in found] == ["modelspec.author", "ss_note"]
    convert(path, out, "common")
    assert not any("names a folder" in row.text for row in check(out))
    assert read_metadata(out)["ss_x"] == "1/2" and read_metadata(out)["ss_note"] == "train"
