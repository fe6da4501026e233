"""Folders of strangers: special files, links, names that no terminal should see, and many files."""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate import ingest
from onmodel.curate.export import export
from onmodel.curate.gather import gather
from onmodel.curate.ingest import Reading, scan_folder
from onmodel.curate.provenance import read_known
from onmodel.curate.scene import scenes_in
from onmodel.curate.vocabulary import read_aliases
from onmodel.curate.workshop import open_workshop
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.text import is_printable

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's special files")


def picture(path: Path, colour: str = "teal", caption: str | None = "1girl") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), colour).save(path, "PNG")
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "stdin": lambda path: path.symlink_to("/proc/self/fd/0"),
    "process": lambda path: path.symlink_to("/proc/self/mem"),
    "nothing": lambda path: path.symlink_to("nowhere"),
    "itself": lambda path: path.symlink_to(path.name),
    "folder elsewhere": lambda path: path.symlink_to("/etc"),
}


@linux
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", ["picture", "caption", "mask", "provenance"])
def test_a_special_file_is_refused_and_the_rest_goes_on(
    tmp_path: Path, kind: str, place: str
) -> None:
    folder = tmp_path / "set"
    picture(folder / "good.png")
    picture(tmp_path / "masks" / "good.png", "white", None)
    bad = {
        "picture": folder / "bad.png",
        "caption": folder / "bad.txt",
        "mask": tmp_path / "masks" / "bad.png",
        "provenance": folder / "provenance.json",
    }[place]
    if place in ("caption", "mask"):
        picture(folder / "bad.png", "red", None if place == "caption" else "1girl")
    if place == "picture":
        (folder / "bad.txt").write_text("1girl")
    SPECIAL[kind](bad)
    masks = {"masks": tmp_path / "masks"} if place == "mask" else {}
    found, refused, *_ = scan_folder(folder, "x", Reading(**masks))
    entered = []
    for candidate in found:
        try:
            entered.append(ingest.check(candidate)[0])
        except ingest.Refused as reason:
            refused.append(ingest.Refusal(candidate.name, str(reason)))
    assert len(entered) == 1
    assert place == "provenance" or [row.file for row in refused] == ["bad.png"]
    if place == "provenance" and bad.is_symlink() and bad.is_file():
        with pytest.raises(InputError, match="is a link"):
            read_known(folder)


@linux
def test_captions_are_not_read_through_links_that_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret tag")
    folder = tmp_path / "set"
    for name, target in (
        ("out", "../secret.txt"),
        ("absolute", str(tmp_path / "secret.txt")),
        ("stays", "good.txt"),
    ):
        picture(folder / f"{name}.png", "red", None)
        (folder / f"{name}.txt").symlink_to(target)
    picture(folder / "good.png")
    (folder / "hop.txt").symlink_to("out.txt")
    picture(folder / "hop.png", caption=None)
    found, refused, *_ = scan_folder(folder, "x")
    assert [row.path.name for row in found] == ["good.png", "stays.png"]
    assert {row.tags for row in found} == {("1girl",)}
    assert [row.file for row in refused] == ["absolute.png", "hop.png", "out.png"]
    assert all("link out of its folder" in row.reason for row in refused)


@linux
def test_links_to_pictures_are_pictures_and_a_linked_folder_is_not_entered(tmp_path: Path) -> None:
    store = picture(tmp_path / "store" / "1.png", caption="1girl, private")
    picture(tmp_path / "heap" / "base" / "own.png")
    (tmp_path / "heap" / "base" / "linked.png").symlink_to(store)
    (tmp_path / "heap" / "base" / "linked.txt").write_text("1girl")
    (tmp_path / "heap" / "other").symlink_to(store.parent)
    count, refused, _ = gather([tmp_path / "heap"], tmp_path / "work", "", "", Events())
    assert count == 2 and list(open_workshop(tmp_path / "work").pieces) == [
        "base/linked",
        "base/own",
    ]
    assert [row["file"] for row in refused] == ["heap/other"] and "source of its own" in refused[0][
        "reason"
    ]


@linux
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/proc/self/mem"])
def test_an_endless_file_is_refused_at_once(tmp_path: Path, path: str) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a.json").symlink_to(path)
    with pytest.raises(InputError, match=r"scenes: .*(regular file|cannot be read)"):
        scenes_in(tmp_path / "scenes")
    with pytest.raises(InputError, match=r"aliases: .*(regular file|cannot be read)"):
        read_aliases(Path(path))
    for suffix in ("toml", "yaml", "json"):
        (tmp_path / f"set.{suffix}").symlink_to(path)
        with pytest.raises(InputError, match=r"dataset_config: .*(regular file|cannot be read)"):
            gather([tmp_path / f"set.{suffix}"], tmp_path / "work", "", "", Events())
    with pytest.raises(InputError):
        gather([Path(path)], tmp_path / "work", "", "", Events())


HOSTILE_NAMES = [
    "a\nb",
    "a\x1b[2Jb",
    "a\u2028b",
    "a\u0085b",
    "a\u202egnp",
    "a\x07",
    "\x7f",
    "a\u200e",
    "a\rb",
]


@linux
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_reach_no_file_and_no_line_raw(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "heap" / "base" / f"{name}.png")
    picture(tmp_path / "heap" / name / "a.png")
    picture(tmp_path / "heap" / "base" / f"{name} bad.png", caption=None).write_bytes(b"no picture")
    (tmp_path / "heap" / "base" / f"{name} bad.txt").write_text("1girl")
    count, refused, _ = gather([tmp_path / "heap"], tmp_path / "work", "", "", Events())
    workshop = open_workshop(tmp_path / "work")
    assert count == 2 and len(refused) == 1
    assert all(map(is_printable, [*workshop.pieces, *refused[0].values(), *workshop.repeats]))
    export(workshop, tmp_path / "out", True, Events())
    names = [path.name for path in (tmp_path / "out").rglob("*")]
    assert len([one for one in names if one.endswith(".png")]) == 2 and all(
        map(is_printable, names)
    )


@linux
def test_a_name_that_is_no_utf8_is_one_refusal(tmp_path: Path) -> None:
    picture(tmp_path / "heap" / "base" / "good.png")
    picture(tmp_path / "heap" / "base" / os.fsdecode(b"raw\xff.png"))
    picture(tmp_path / "heap" / os.fsdecode(b"raw\xfe") / "a.png")
    count, refused, _ = gather([tmp_path / "heap"], tmp_path / "work", "", "", Events())
    assert count == 1
    assert [row["file"] for row in refused] == ["base/raw\\udcff.png", "raw_/a.png"]
    assert (
        json.loads((tmp_path / "work" / "pictures.json").read_text("utf-8"))["refused"] == refused
    )


@linux
def test_names_that_are_one_elsewhere_stay_two_pictures(tmp_path: Path) -> None:
    for name in (
        "A.png",
        "a.png",
        "~x.png",
        "con.png",
        "q?.png",
        "q*.png",
        "-1.png",
        "photo.png?w=99",
    ):
        picture(tmp_path / "set" / name, caption="1girl")
    count, refused, _ = gather([tmp_path / "set"], tmp_path / "work", "", "", Events())
    assert count == 8 and refused == []
    export(open_workshop(tmp_path / "work"), tmp_path / "out", False, Events())
    names = sorted(
        path.name for path in (tmp_path / "out" / "set").iterdir() if path.suffix != ".txt"
    )
    assert names == [
        "A.png",
        "_-1.png",
        "_con.png",
        "_~x.png",
        "a-2.png",
        "photo.png_w=99",
        "q_-2.png",
        "q_.png",
    ]


def test_a_source_without_a_name_of_its_own_is_called_as_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "girl" / "a.png")
    monkeypatch.chdir(tmp_path / "girl")
    gather([Path(".")], tmp_path / "work", "", "", Events())
    assert list(open_workshop(tmp_path / "work").pieces) == ["girl/a"]


def test_a_file_beside_folders_of_pictures_is_named_and_the_folders_are_read(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "img" / "10_girl" / "a.png")
    (tmp_path / "img" / "readme.txt").write_text("read me")
    count, refused, notes = gather([tmp_path / "img"], tmp_path / "work", "", "", Events())
    assert count == 1 and open_workshop(tmp_path / "work").repeats == {"girl": 10}
    assert refused == [] and notes == ["left alone beside the folders: 1 × .txt"]


def test_captions_are_found_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", caption=None)
    (tmp_path / "a.TXT").write_text("1girl, upper")
    (found,), refused, *_ = scan_folder(tmp_path, "x")
    assert found.tags == ("1girl", "upper") and refused == []


def calls_of(folder: Path, count: int) -> int:
    """Calls of Python functions that a scan of so many pairs makes."""
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:05d}.png").write_bytes(b"x")
        (folder / f"{i:05d}.txt").write_bytes(b"1girl")
    calls = 0

    def count_one(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_one)
    try:
        found, *_ = scan_folder(folder, "x")
    finally:
        sys.setprofile(None)
    assert len(found) == count
    return calls


def test_a_scan_takes_as_much_work_for_each_picture_however_many_there_are(tmp_path: Path) -> None:
    few, many = calls_of(tmp_path / "few", 50), calls_of(tmp_path / "many", 400)
    assert many < 8 * few * 1.2
