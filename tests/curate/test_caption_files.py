"""Captions wherever other tools put them, and what is said about the sources that were not used."""

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.ingest import FolderScan, Reading, scan_folder


def picture(path: Path) -> Path:
    Image.new("RGB", (32, 32), "teal").save(path, "PNG")
    return path


def scan(folder: Path, **reading: object) -> FolderScan:
    return scan_folder(folder, "x", Reading.model_validate(reading))


@pytest.mark.parametrize(
    ("image", "caption"),
    [
        ("IMG_000.PNG", "IMG_000.TXT"),
        ("IMG_000.PNG", "img_000.txt"),
        ("000.png", "000.png.txt"),
        ("000.png", "000.caption"),
        ("000.png", "000.tags"),
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.txt")),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.txt")),
    ],
)
def test_a_caption_is_found_as_files_are_listed(tmp_path: Path, image: str, caption: str) -> None:
    picture(tmp_path / image)
    (tmp_path / caption).write_text("1girl, smile\nA girl.", encoding="utf-8")
    found = scan(tmp_path)
    assert [(row.tags, row.sentence) for row in found.pictures] == [(("1girl", "smile"), "A girl.")]
    assert found.uncaptioned == 0 and found.refused == []


def test_names_that_differ_in_case_only_keep_their_own_captions(tmp_path: Path) -> None:
    for name in ("a", "A"):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"1girl, {name}")
    assert [row.tags[1] for row in scan(tmp_path).pictures] == ["A", "a"]


NINE = {
    "quality": ["masterpiece"],
    "count": "1girl",
    "character": "mychar",
    "series": "",
    "artist": None,
    "appearance": ["red hair"],
    "tags": ["smile", "standing"],
    "environment": ["forest"],
    "nl": "A girl stands\nin a forest.",
}
ALL = ("masterpiece", "1girl", "mychar", "red hair", "smile", "standing", "forest")


@pytest.mark.parametrize(
    ("value", "tags", "sentence"),
    [
        (NINE, ALL, "A girl stands in a forest."),
        ({"ai_output": NINE}, ALL, "A girl stands in a forest."),
        ({"caption": "1girl, smile"}, ("1girl", "smile"), ""),
        ({"caption": "1girl, smile\nA girl.", "caption_short": "x"}, ("1girl", "smile"), "A girl."),
        ({"tags": "1girl, smile", "caption": "A girl."}, ("1girl", "smile"), "A girl."),
        ({"tags": {"general": ["1girl"], "meta": ["highres"]}}, ("1girl", "highres"), ""),
        ("1girl, smile", ("1girl", "smile"), ""),
        ({"tags": {"1girl": 0.99, "smile": 0.8}}, ("1girl", "smile"), ""),
        ({"tag_string": "1girl red_hair", "score": 3}, ("1girl", "red_hair"), ""),
    ],
)
def test_json_beside_a_picture_is_its_caption(
    tmp_path: Path, value: object, tags: tuple[str, ...], sentence: str
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
    found = scan(tmp_path)
    assert [(row.tags, row.sentence) for row in found.pictures] == [(tags, sentence)]
    assert found.notes == ["captions: 1 from .json"]


def test_json_that_is_no_caption_is_left_alone_unless_it_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"width": 3}')
    assert scan(tmp_path).uncaptioned == 1
    (refusal,) = scan(tmp_path, caption_extension="json").refused
    assert "none of the keys caption, tags and nl" in refusal.reason


TABLES = {
    "captions.json": '{"a.png": "1girl, a", "b.png": ["1girl, b", "other"]}',
    "metadata.jsonl": (
        '{"file_name": "a.png", "text": "1girl, a"}\n{"file_name": "x/B.png", "text": "1girl, b"}\n'
    ),
    "metadata.csv": 'file_name,text\na.png,"1girl, a"\nb.png,"1girl, b"\n',
    "metadata.json": (
        '[{"image": "a.png", "prompt": "1girl, a"}, {"image": "b", "tags": "1girl, b"}]'
    ),
    "captions.jsonl": (
        '{"image_path": "/home/me/a.png", "caption": "1girl, a"}\n'
        '{"image_path": "C:\\\\set\\\\b.png", "caption": "1girl, b"}\n'
    ),
    "meta_cap.json": '{"/home/me/a.png": {"tags": "1girl, a"}, "b": {"caption": "1girl, b"}}',
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_captions_are_read_and_files_go_before_them(tmp_path: Path, table: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / table).write_text(TABLES[table])
    found = scan(tmp_path)
    assert [row.tags for row in found.pictures] == [("1girl", "a"), ("1girl", "b")]
    assert found.notes[0] == f"captions: 2 from {table}" and found.refused == []
    assert (
        found.notes[1:] == ["1 pictures have several captions; the first is used"]
        if table == "captions.json"
        else len(found.notes) == 1
    )
    (tmp_path / "a.txt").write_text("1girl, file")
    found = scan(tmp_path)
    assert [row.tags[1] for row in found.pictures] == ["file", "b"]
    assert found.notes[0] == f"captions: 1 from .txt, 1 from {table}; not used: 1 × {table}"
    found = scan(tmp_path, table_first=True)
    assert [row.tags[1] for row in found.pictures] == ["a", "b"]
    assert found.notes[0] == f"captions: 2 from {table}; not used: 1 × .txt"


CAPTION = "1girl, red hair"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"captions": [CAPTION, "other"]})),
        ("a.json", json.dumps({"caption": [CAPTION]})),
        ("a.png.json", json.dumps({"tags": "1girl red_hair"})),
        ("metadata.jsonl", json.dumps({"file_name": "a.png", "text": [CAPTION, "other"]})),
        ("metadata.jsonl", json.dumps({"file_name": "a.png", "text": CAPTION}) + "\r\n\r\n"),
        ("metadata.csv", f'file_name;text\na.png;"{CAPTION}"\n'),
        ("metadata.csv", f"file_name\ttext\na.png\t{CAPTION}\n"),
        ("meta_lat.json", json.dumps({"/x/a": {"tags": CAPTION, "train_resolution": [64, 64]}})),
    ],
)
def test_captions_of_further_forms_are_read(tmp_path: Path, name: str, text: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    found = scan(tmp_path)
    (row,) = found.pictures
    assert [tag.replace("_", " ") for tag in row.tags] == ["1girl", "red hair"]
    assert any("several captions" in note for note in found.notes) == ("other" in text)


def test_a_table_may_hold_other_ends_of_lines_within_a_caption(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    row = {"file_name": "a.png", "text": "1girl, a\u2028b"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert scan(tmp_path).uncaptioned == 0


def test_the_damaged_line_of_a_table_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "1girl"}\n{bad\n')
    assert scan(tmp_path).notes[0].startswith("metadata.jsonl is not read: line 2 is not valid")


def test_a_table_about_no_picture_here_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("name,words\na.png,1girl\n")
    assert scan(tmp_path).notes == [
        "metadata.csv has no row about a picture here; it needs the keys or columns file_name and"
        " text"
    ]


def test_a_list_of_captions_says_how_it_can_be_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "captions.txt").write_text("a.png|1girl\n")
    (tmp_path / "notes.txt").write_text("my notes\n")
    one, other = scan(tmp_path).refused
    assert (one.file, other.reason) == ("captions.txt", "a caption without a picture of its name")
    assert "save it as metadata.csv with the columns file_name and text" in one.reason
    (tmp_path / "captions.txt").rename(tmp_path / "metadata.csv")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,1girl\n")
    assert [row.tags for row in scan(tmp_path).pictures] == [("1girl",)]


def test_a_table_above_the_folder_is_read_for_the_files_in_it(tmp_path: Path) -> None:
    for folder in ("images", "other"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "images/a.png", "text": "1girl"}')
    assert [row.tags for row in scan(tmp_path / "images").pictures] == [("1girl",)]
    found = scan(tmp_path / "other")
    assert found.uncaptioned == 1 and found.notes == []


def test_an_empty_file_is_no_caption(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf \n")
    found = scan(tmp_path)
    assert found.uncaptioned == 1 and found.refused == []
    assert found.notes == ["captions: none; not used: 1 × .txt without a caption"]


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "captions.json").write_text("{")
    found = scan(tmp_path)
    assert found.uncaptioned == 1 and found.notes[0].startswith("captions.json is not read")


def test_lines_of_a_whole_caption_are_joined(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1girl, red hair,\nA girl.\n\nShe smiles.")
    (found,) = scan(tmp_path, join_lines=", ").pictures
    assert (", ".join(found.tags), found.sentence) == (
        "1girl, red hair, A girl., She smiles.",
        "",
    )


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("1girl, mikasa, smile", ("mika", "1girl", "mikasa", "smile")),
        ("1girl, mika smile", ("1girl", "mika smile")),
        ("[trigger], smile", ("mika", "smile")),
    ],
)
def test_the_trigger_is_found_as_a_word(
    tmp_path: Path, caption: str, tags: tuple[str, ...]
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption)
    assert [row.tags for row in scan(tmp_path, trigger="mika").pictures] == [tags]


def test_tags_of_the_prefix_stay_in_front(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1girl, smile")
    (found,) = scan(tmp_path, caption_prefix="mychar, best, ", prefix_stays=True).pictures
    assert (found.tags, found.kept_first) == (("mychar", "best", "1girl", "smile"), 2)
