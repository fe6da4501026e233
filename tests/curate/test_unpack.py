"""Zips of strangers: nothing is written outside, nothing replaces another, and the cost is known
before it is paid."""

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate import unpack as module
from onmodel.curate.gather import gather
from onmodel.curate.unpack import unpack
from onmodel.curate.workshop import open_workshop
from onmodel.errors import InputError, SpaceError
from onmodel.events import Events


def png(colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    """The zip with a name replaced in both places by one of the same length."""
    assert len(old) == len(new) and path.read_bytes().count(old) == 2
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.mark.parametrize(
    "name",
    [
        r"\tmp\x\evil.png",
        r"\\host\share\evil.png",
        "/tmp/x/evil.png",
        "../evil.png",
        r"..\evil.png",
        r"a\..\..\evil.png",
        "a/../../evil.png",
        r"C:\evil.png",
        "C:evil.png",
        "C:/evil.png",
        "//host/evil.png",
        "/./evil.png",
        "././../evil.png",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    source = zipped(tmp_path / "a.zip", {"good.png": png(), name: png()})
    before = tree(tmp_path)
    left = unpack(source, tmp_path / "work" / "unpacked" / "a")
    assert [(entry.replace("./", ""), why) for entry, why in left if "leads out" in why], left
    assert set(tree(tmp_path)) - set(before) == {"work/unpacked/a/good.png"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\0b.png", "control characters"),
        ("a\nb.png", "control characters"),
        ("a\x1b[2J.png", "control characters"),
        ("a\u202egnp.png", "not shown"),
        ("a\u2028b.png", "not shown"),
        ("nul.png", "Windows"),
        ("ab:c.png", "leave out"),
        ("x" * 300 + ".png", "bytes"),
        ("a/" * 600 + "b.png", "longer"),
        ("a//b.png", "one letter"),
        ("end. /b.png", "space or dot"),
        ("inner.zip", "zip within"),
        ("inner.png", "zip within"),
    ],
)
def test_a_name_that_cannot_be_written_everywhere_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    inner = zipped(tmp_path / "i.zip", {"a.png": png()}).read_bytes()
    source = tmp_path / "a.zip"
    held = "a#b.png" if "\0" in name else name
    zipped(source, {"good.png": png(), held: inner if "inner" in name else png()})
    if held != name:
        renamed(source, held.encode(), name.encode())
    ((_, why),) = unpack(source, tmp_path / "out")
    assert reason in why and tree(tmp_path / "out") == ["good.png"]


def test_old_names_are_read(tmp_path: Path) -> None:
    entries = {
        r"set\a.png": png(),
        r"set\a.txt": b"1girl",
        "./set/b.png": png("red"),
        "set/ねこ.png": png("blue"),
        "set/": b"",
        "set\\": b"",
        "__MACOSX/set/._a.png": b"x",
        "set/.DS_Store": b"x",
    }
    assert unpack(zipped(tmp_path / "a.zip", entries), tmp_path / "out") == []
    assert tree(tmp_path / "out") == ["set/a.png", "set/a.txt", "set/b.png", "set/ねこ.png"]
    source = zipped(tmp_path / "b.zip", {"caf#.png": png()})
    renamed(source, b"caf#.png", b"caf\x82.png")  # code page 437, as DOS wrote it
    assert unpack(source, tmp_path / "dos") == [] and tree(tmp_path / "dos") == ["café.png"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.png", "a.png"),
        ("a.png", "A.PNG"),
        ("s/ß.png", "S/SS.png"),
        ("\u00e9.png", "e\u0301.png"),
        ("a/b.png", r"a\b.png"),
        ("a.png", "./a.png"),
    ],
)
def test_the_second_of_one_name_is_refused_by_name(tmp_path: Path, first: str, second: str) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")  # Python warns of two entries of one name
        archive.writestr(first, png("red"))
        archive.writestr(second, png("blue"))
    ((_, why),) = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert "a second file of the name" in why
    (only,) = tree(tmp_path / "out")
    assert (tmp_path / "out" / only).read_bytes() == png("red")


def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", {"Set": png(), "set/a.png": png(), "b.png": png()})
    assert unpack(source, tmp_path / "out") == [("Set", "is a file and a folder in the zip")]
    assert tree(tmp_path / "out") == ["b.png", "set/a.png"]


@pytest.mark.parametrize("kind", [0o120777, 0o010644, 0o020644, 0o140644])
def test_links_and_special_files_are_left(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", png())
        info = zipfile.ZipInfo("a.txt")
        info.external_attr = kind << 16
        archive.writestr(info, "/etc/passwd")
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == [
        ("a.txt", "is a link or another special file")
    ]


def test_only_pictures_and_texts_are_unpacked(tmp_path: Path) -> None:
    entries = {
        "a.png": png(),
        "b.jpg": png(),
        "no_ending": png(),
        "a.txt": b"1girl",
        "provenance.json": b"{}",
        "x.sh": b"#!/bin/sh",
        "m.safetensors": b"\0" * 99,
        "fake.png": b"text",
        "none.png": b"",
    }
    left = dict(unpack(zipped(tmp_path / "a.zip", entries), tmp_path / "out"))
    assert tree(tmp_path / "out") == ["a.png", "a.txt", "b.jpg", "no_ending", "provenance.json"]
    assert (
        set(left) == {"x.sh", "m.safetensors", "fake.png", "none.png"}
        and left["none.png"] == "the file is empty"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_without_a_limit_for_each_read_is_left(tmp_path: Path, method: int) -> None:
    with pytest.raises(InputError, match="another method than deflate; unpack it yourself"):
        unpack(zipped(tmp_path / "a.zip", {"a.png": png()}, method), tmp_path / "out")


def overlapping(path: Path, count: int) -> Path:
    """Many entries that share the bytes of one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", png())
        (first,) = archive.infolist()
        for i in range(1, count):
            info = zipfile.ZipInfo(f"{i}.png")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(info, name, getattr(first, name))
            archive.filelist.append(info)
    return path


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param("bomb", "100 times its size", id="one bomb"),
        pytest.param("bombs", "100 times its size", id="many small bombs"),
        pytest.param("overlap", "overlap", id="entries that share bytes"),
        pytest.param("many", "more than 20 entries", id="many entries"),
        pytest.param("large", "more than 0 GiB", id="large in all"),
        pytest.param("directory", "list of entries", id="a long list"),
    ],
)
def test_what_costs_too_much_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, reason: str
) -> None:
    source = tmp_path / "a.zip"
    if made == "bomb":
        zipped(source, {"a.png": png() + b"\0" * (70 * 2**20)})
    elif made == "bombs":
        monkeypatch.setattr(module, "FREE", 2**20)
        zipped(source, {f"{i}.txt": b"\0" * 2**17 for i in range(16)})
    elif made == "overlap":
        overlapping(source, 30)
    elif made == "many":
        monkeypatch.setattr(module, "MOST_ENTRIES", 20)
        zipped(source, {f"{i}.png": png() for i in range(21)})
    elif made == "large":
        monkeypatch.setattr(module, "MOST_UNPACKED", 10 * len(png()))
        zipped(source, {f"{i}.png": png() for i in range(21)})
    else:
        monkeypatch.setattr(module, "LARGEST_DIRECTORY", 1000)
        zipped(source, {f"{i}.png": png() for i in range(21)}, zipfile.ZIP_STORED)
    with pytest.raises(InputError, match=f"{reason}.*unpack it yourself and use its folder"):
        gather([source], tmp_path / "work", "", "", Events())
    assert tree(tmp_path) == ["a.zip"] and not (tmp_path / "work").exists()


def test_bytes_beyond_the_told_size_are_not_unpacked(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", {"lie.png": png() + b"\0" * 2**20, "good.png": png()})
    data = source.read_bytes()
    size = struct.pack("<I", len(png()) + 2**20)
    source.write_bytes(data.replace(size, struct.pack("<I", len(png()))))
    ((name, why),) = unpack(source, tmp_path / "out")
    assert (
        name == "lie.png" and "damaged in the zip" in why and tree(tmp_path / "out") == ["good.png"]
    )


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_is_one_line_and_leaves_nothing_half(tmp_path: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    source = zipped(tmp_path / "a.zip", {"a.png": png(), "a.txt": b"1girl", "s/b.png": png("red")})
    data = bytearray(source.read_bytes())
    for _ in range(int(rng.integers(1, 6))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    source.write_bytes(bytes(data[: int(rng.integers(len(data) // 2, len(data) + 1))]))
    try:
        unpack(source, tmp_path / "work" / "out")
    except InputError:
        assert tree(tmp_path) == ["a.zip"]
    assert not list(tmp_path.rglob(".onmodel-*"))


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(path: Path, *args: object, **options: object) -> object:
        if path.name == "b.png":
            raise OSError(28, "No space left on device")
        return real(path, *args, **options)  # type: ignore[call-overload]

    source = zipped(tmp_path / "a.zip", {"a.png": png(), "b.png": png()})
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SpaceError):
        unpack(source, tmp_path / "work" / "out")
    assert tree(tmp_path) == ["a.zip"]


def test_two_zips_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for folder, colour in (("x", "red"), ("y", "blue")):
        (tmp_path / folder).mkdir()
        zipped(tmp_path / folder / "set.zip", {"a.png": png(colour)})
    with pytest.raises(InputError, match="exists already"):
        gather(
            [tmp_path / "x" / "set.zip", tmp_path / "y" / "set.zip"],
            tmp_path / "work",
            "",
            "",
            Events(),
        )
    assert not (tmp_path / "work").exists()
    gather([tmp_path / "x" / "set.zip"], tmp_path / "work", "", "", Events())
    assert list(open_workshop(tmp_path / "work").pieces) == ["set/a"]


def test_a_name_that_is_no_utf8_is_no_traceback(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", {"ねこ.png": png()})
    renamed(source, "ねこ".encode(), b"\xff" * 6)
    with pytest.raises(InputError, match="no readable zip"):
        unpack(source, tmp_path / "out")
