"""What counts as a picture of a set, and what is left alone beside it: the same for imports, zips,
recipes and the doctor."""

import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.gather import gather
from onmodel.curate.ingest import scan_folder
from onmodel.curate.listing import layout_of
from onmodel.curate.other_tools.sd_scripts import read_numbered_folders
from onmodel.curate.workshop import open_workshop
from onmodel.doctor.dataset import curate_table
from onmodel.errors import InputError
from onmodel.events import Events

COMPANIONS = [".json", ".xmp", ".bak", ".npz", ".psd", ".info", ".csv", ".md", ".html", ".aae"]
COMPANIONS += [".yaml", ".safetensors", ".pt", ".mp4", ".CR3", ""]


def picture(path: Path, caption: str | None = "1girl, smile", mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (32, 32), "white").save(path, "PNG")
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", COMPANIONS)
def test_a_file_beside_a_picture_that_is_no_picture_is_left_alone(
    tmp_path: Path, ending: str
) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
        head = b"\0\0\0\x18ftypmp42" if ending == ".mp4" else b"{}"
        (tmp_path / f"{name}{ending}").write_bytes(head)
    scan = scan_folder(tmp_path, "x")
    assert [row.name for row in scan.pictures] == ["a.png", "b.png"]
    assert scan.refused == [] and len(scan.notes) == 1


def test_only_two_pictures_of_one_stem_are_a_conflict(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "a.jpg")
    picture(tmp_path / "b.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    scan = scan_folder(tmp_path, "x")
    assert [row.file for row in scan.refused] == ["a.jpg", "a.png"]
    assert {"b.png"} <= {row.name for row in scan.pictures}


@pytest.mark.parametrize(
    "name", ["a-masklabel.png", "a_mask.png", "mask_a.png", "masks/a.png", "Mask/A.png"]
)
def test_masks_are_found_by_the_names_that_others_give_them(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    mask = picture(tmp_path / name, None)
    scan = scan_folder(tmp_path, "x")
    assert [(row.name, row.mask) for row in scan.pictures] == [("a.png", mask), ("b.png", None)]
    assert scan.masks == 1 and scan.notes == []


def test_masks_of_no_picture_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("masks/a.png.png", "masks/b.png"):
        picture(tmp_path / name, None)
    scan = scan_folder(tmp_path, "x")
    assert scan.masks == 0
    assert scan.notes == ["left alone as further masks or masks of no picture: 2 × .png"]


def test_further_masks_are_left_alone_and_a_picture_with_a_caption_is_no_mask(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "a.png")
    for name in ("a-masklabel1.png", "a-condlabel.png"):
        picture(tmp_path / name, None)
    picture(tmp_path / "a_mask.png", "1girl, mask")
    scan = scan_folder(tmp_path, "x")
    assert [row.name for row in scan.pictures] == ["a.png", "a_mask.png"] and scan.masks == 0
    assert scan.notes == ["left alone as further masks or masks of no picture: 2 × .png"]


STRAYS = ["desktop.ini", "sample_prompts.txt", "meta_lat.json", "old/x.png", "notes/readme.md"]


@pytest.mark.parametrize("around", ["", "img/", "set/img/"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("stray", ["", *STRAYS])
def test_repeats_of_numbered_folders_are_kept_beside_strays(
    tmp_path: Path, stray: str, zipped: bool, around: str
) -> None:
    root = tmp_path / "set"
    picture(root / around / "10_mychar" / "a.png")
    if stray:
        path = root / around / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(path) if path.suffix == ".png" else path.write_text("x")
    assert curate_table(root) == {"train_data_dir": root / around}
    source = root
    if zipped:
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in root.rglob("*"):
                archive.write(path, path.relative_to(root))
    count, refused, notes = gather([source], tmp_path / "work", "", "", Events())
    assert (count, open_workshop(tmp_path / "work").repeats) == (1, {"mychar": 10})
    assert refused == [] and len(notes) == bool(stray)


def test_the_folder_of_numbered_ones_is_found_beside_samples(tmp_path: Path) -> None:
    picture(tmp_path / "img" / "5_mychar" / "a.png")
    picture(tmp_path / "sample" / "b.png", None)
    (tmp_path / "model").mkdir()
    assert curate_table(tmp_path) == {"train_data_dir": tmp_path / "img"}
    assert gather([tmp_path], tmp_path / "work", "", "", Events()).pictures == 1


def test_a_number_without_a_name_is_the_repeats_as_in_sd_scripts(tmp_path: Path) -> None:
    picture(tmp_path / "5_" / "a.png", None)
    (subset,) = read_numbered_folders(tmp_path, regularisation=False).subsets
    assert (subset.name, subset.config.repeats, subset.reading.default_caption) == ("5_", 5, None)
    gather([tmp_path], tmp_path / "work", "", "", Events())
    assert open_workshop(tmp_path / "work").repeats == {"5_": 5}


def test_two_places_that_lie_deeper_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "img" / "5_mychar" / "a.png")
    picture(tmp_path / "reg" / "1_girl" / "b.png")
    with pytest.raises(InputError, match="lie deeper, in img, reg; name one of these"):
        gather([tmp_path], tmp_path / "work", "", "", Events())
    with pytest.raises(InputError, match="lie deeper"):
        curate_table(tmp_path)


def test_folders_without_a_picture_and_of_masks_are_no_subsets(tmp_path: Path) -> None:
    for name in ("base/a.png", "close/b.png", "masks/a.png"):
        picture(tmp_path / name)
    (tmp_path / "logs").mkdir()
    layout = layout_of(tmp_path)
    assert [path.name for path in layout.folders] == ["base", "close"]
    assert [path.name for path in layout.left] == ["logs", "masks"]
    assert list(curate_table(tmp_path)["subsets"]) == ["base", "close"]  # type: ignore[call-overload]


def test_an_export_is_imported_without_a_word_about_its_provenance(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "provenance.json").write_text('{"pictures": {}, "models": {}}')
    assert scan_folder(tmp_path / "set", "x").notes == []
    shutil.move(tmp_path / "set" / "provenance.json", tmp_path)
    assert gather([tmp_path], tmp_path / "work", "", "", Events()).notes == []


def test_a_folder_without_pictures_says_what_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.7z").write_bytes(b"7z")
    with pytest.raises(InputError, match=r"no picture can be read; left alone .*: 1 × \.7z"):
        gather([folder], tmp_path / "out", "x", "", Events())


def test_pictures_inside_a_table_are_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet is a table, which is not"):
        layout_of(tmp_path)
