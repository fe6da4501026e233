"""The curate stage: sources become subsets, repeats are held out together, refusals are told."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from onmodel.dataset.captions import CaptionRules, captions_of, flips_of
from onmodel.dataset.manifest import leaf, read_items
from onmodel.dataset.merkle import merkle_root
from onmodel.errors import InputError
from onmodel.hashing import read_json, sha256_file, write_json
from onmodel.ledger.lineage import add, root
from onmodel.records import Artifact, Item
from onmodel.release.history import origin_words
from onmodel.sample.pictures import png_bytes
from onmodel.stages import curate
from onmodel.stages.base import Inputs, Plan
from onmodel.toon.datasets import STANDIN_SETS, write_set
from tests.support.contexts import context, said


def settings(**table: Any) -> curate.Settings:
    return curate.Settings.model_validate({"do": "curate", **table})


def run(
    folder: Path, artifacts: dict[str, Artifact] | None = None, seed: int = 1, **table: Any
) -> Artifact:
    return curate.run(
        Inputs(artifacts or {}), settings(**table), context(folder, lambda: None, "data", seed)
    )


def items(artifact: Artifact, subset: str | None = None) -> list[Item]:
    return [item for item in read_items(artifact.path) if subset in (None, item.subset)]


def generated(folder: Path, kept: int) -> Artifact:
    """A sample stage's artifact of eight pictures."""
    write_set("backgwa_base", folder / "pictures", count=8)
    rows = [
        {
            "file": f"pictures/{i:03d}.png",
            "prompt": "x",
            "tags": f"1girl, backgwa, number {i}",
            "sentence": "A girl.",
            "kept": i < kept,
            "model_sha256": "c" * 64,
        }
        for i in range(8)
    ]
    write_json(folder / "pictures.json", rows)
    write_json(folder / "lineage.json", add([], "pictures", name="generated"))
    return Artifact("pictures", "x", folder)


def test_toon_sets(tmp_path: Path) -> None:
    artifact = run(
        tmp_path / "a",
        subsets={
            "base": [{"toon": "backgwa_base", "count": 6}],
            "fine": [{"toon": "refinement", "count": 4}],
        },
    )
    manifest = read_json(artifact.path / "manifest.json")
    assert artifact.kind == "dataset" and manifest["refused"] == []
    assert manifest["subsets"] == {
        "base": {"purpose": STANDIN_SETS["backgwa_base"].purpose, "count": 6, "heldout": 0},
        "fine": {"purpose": STANDIN_SETS["refinement"].purpose, "count": 4, "heldout": 0},
    }
    for item in items(artifact):
        assert sha256_file(artifact.path / item.image) == item.sha256
        assert item.tags.startswith("1girl, backgwa, ") and item.sentence and item.origin == "toon"
    lineage = read_json(artifact.path / "lineage.json")
    node = lineage[root(lineage)]
    assert [lineage[id]["type"] for id in node.pop("used")] == ["recipe"]
    assert node.pop("settings")["do"] == "curate"
    assert node == {
        "type": "dataset",
        "name": "data",
        "origins": {"toon": 10},
        "root": merkle_root(map(leaf, items(artifact))),
        "subsets": {"base": {"count": 6, "heldout": 0}, "fine": {"count": 4, "heldout": 0}},
    }


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    table = {"subsets": {"base": [{"toon": "backgwa_base", "count": 8}]}, "heldout": 0.25}
    first, second, other = (
        run(tmp_path / "a", **table),
        run(tmp_path / "b", **table),
        run(tmp_path / "c", seed=2, **table),
    )
    assert first.hash == second.hash != other.hash
    (tmp_path / "a" / "out" / "images" / "left-over.png").write_bytes(b"x")
    assert run(tmp_path / "a", **table).hash == first.hash


def test_a_folder_keeps_its_bytes_and_tells_what_it_refused(tmp_path: Path) -> None:
    pictures = tmp_path / "my pictures"
    write_set("backgwa_base", pictures, count=4)
    (pictures / "000.txt").write_bytes(b"gar\xe7on")
    (pictures / "note.md").write_text("hello")
    (pictures / "copy.png").write_bytes((pictures / "001.png").read_bytes())
    (pictures / "copy.txt").write_text("1girl, backgwa")
    (pictures / "empty.png").touch()
    (pictures / "empty.txt").write_text("1girl")
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    where = context(tmp_path / "a", lambda: None, "data")
    artifact = curate.run(Inputs({}), settings(subsets={"own": [{"folder": str(pictures)}]}), where)
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before
    refused = {
        row["file"]: row["reason"] for row in read_json(artifact.path / "manifest.json")["refused"]
    }
    assert set(refused) == {"000.png", "copy.png", "empty.png"}
    assert "already" in refused["copy.png"]
    assert {item.origin for item in items(artifact)} == {"folder:my pictures"} and len(
        items(artifact)
    ) == 3
    assert "own: left alone beside the pictures: 1 × .md" in said(where)
    assert "3 files are excluded" in said(where) and "000.png: the caption is not UTF-8" in said(
        where
    )
    assert str(tmp_path) not in (artifact.path / "manifest.json").read_text()
    assert str(tmp_path) not in (artifact.path / "lineage.json").read_text()


def test_two_subsets_share_out_generated_pictures(tmp_path: Path) -> None:
    stage = generated(tmp_path / "generated", kept=6)
    artifact = run(
        tmp_path / "a",
        {"generated": stage},
        subsets={
            "one": [{"stage": "generated", "count": 4}],
            "two": [{"stage": "generated", "count": 4}],
        },
    )
    one, two = items(artifact, "one"), items(artifact, "two")
    assert (len(one), len(two)) == (4, 2)
    assert len({item.sha256 for item in one + two}) == 6
    assert {item.tags for item in one + two} == {f"1girl, backgwa, number {i}" for i in range(6)}
    assert {item.origin for item in one + two} == {f"generated:{'c' * 64}"}
    lineage = read_json(artifact.path / "lineage.json")
    assert root(read_json(stage.path / "lineage.json")) in lineage[root(lineage)]["used"]


def test_an_older_data_set(tmp_path: Path) -> None:
    old = run(
        tmp_path / "old", subsets={"base": [{"toon": "backgwa_base", "count": 6}]}, heldout=0.3
    )
    new = run(
        tmp_path / "new",
        {"old": old},
        subsets={"again": [{"dataset": "old", "subset": "base", "count": 4}]},
    )
    known = {item.sha256: item.tags for item in items(old)}
    assert len(items(new)) == 4
    assert all(known[item.sha256] == item.tags and item.origin == "toon" for item in items(new))


def test_repeats_are_held_out_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_set("backgwa_base", tmp_path / name, count=12)
    for path in sorted((tmp_path / "two").glob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=85)
        path.unlink()
    artifact = run(
        tmp_path / "a",
        subsets={"one": [{"folder": tmp_path / "one"}], "two": [{"folder": tmp_path / "two"}]},
        heldout=0.25,
    )
    one, two = items(artifact, "one"), items(artifact, "two")
    assert [item.group for item in one] == [item.group for item in two] == list(range(12))
    assert [item.split for item in one] == [item.split for item in two]
    assert sum(item.split == "heldout" for item in one) == 3


def test_a_whole_subset_is_held_out_with_its_repeats(tmp_path: Path) -> None:
    artifact = run(
        tmp_path / "a",
        subsets={
            "base": [{"toon": "reference", "count": 3}, {"toon": "backgwa_base", "count": 4}],
            "reference": [{"toon": "reference", "count": 3}],
        },
        heldout_subsets=["reference"],
    )
    assert all(item.split == "heldout" for item in items(artifact, "reference"))
    assert [item.split for item in items(artifact, "base")] == ["heldout"] * 3 + ["train"] * 4


@pytest.mark.parametrize(
    ("share", "count", "held"), [(0.1, 3, 1), (0.5, 4, 2), (0.9, 3, 2), (0.0, 3, 0)]
)
def test_the_share_that_is_held_out(tmp_path: Path, share: float, count: int, held: int) -> None:
    artifact = run(
        tmp_path / "a", subsets={"base": [{"toon": "backgwa_base", "count": count}]}, heldout=share
    )
    assert sum(item.split == "heldout" for item in items(artifact)) == held


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").touch()
    (tmp_path / "bad" / "a.txt").write_text("1girl")
    with pytest.raises(
        InputError, match=r"stages\.data\.subsets\.mine: no picture .* a\.png, the file is empty"
    ):
        run(tmp_path / "a", subsets={"mine": [{"folder": tmp_path / "bad"}]})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"subsets": {}}, "at least 1"),
        ({"subsets": {"a": []}}, "has no source"),
        ({"subsets": {"a": [{}]}}, "a source is one of"),
        ({"subsets": {"a": [{"toon": "preview", "stage": "x"}]}}, "a source is one of"),
        ({"subsets": {"a": [{"toon": "backgwa_bas"}]}}, "did you mean 'backgwa_base'"),
        ({"subsets": {"a": [{"dataset": "x"}]}}, "dataset and subset go together"),
        ({"subsets": {"a": [{"toon": "preview", "amount": 3}]}}, "Extra inputs"),
        ({"subsets": {"a": [{"toon": "preview"}]}, "heldout_subsets": ["b"]}, "no subset 'b'"),
        ({"subsets": {"a": [{"toon": "preview"}]}, "purposes": {"b": "x"}}, "no subset 'b'"),
    ],
)
def test_wrong_settings(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**table)


def test_plan(tmp_path: Path) -> None:
    write_set("preview", tmp_path / "own", count=5)
    table = settings(
        subsets={
            "a": [{"toon": "backgwa_base"}, {"stage": "generated", "count": 10}],
            "b": [{"folder": tmp_path / "own", "count": 9}, {"dataset": "old", "subset": "x"}],
        },
    )
    before = {"generated": Plan(pictures=96, counts={"pictures": 16}), "old": Plan(counts={"x": 7})}
    assert curate.estimate(table, before).counts == {"a": 50, "b": 12}
    assert table.needs() == ["generated", "old"]
    first = table.keyed()
    (tmp_path / "own" / "000.txt").write_text("1boy")
    again = settings(subsets={"b": [{"folder": tmp_path / "own", "count": 9}]}).keyed()
    assert again["subsets"]["b"][0] != first["subsets"]["b"][0]


CONFIG = """
[general]
enable_bucket = true
bucket_no_upscale = true
caption_extension = ".txt"
[[datasets]]
resolution = 64
[[datasets.subsets]]
image_dir = "mine"
num_repeats = 3
conditioning_data_dir = "masks"
keep_tokens_separator = "|||"
caption_prefix = "safe |||"
validation_split = 0.4
[[datasets.subsets]]
image_dir = "plain"
class_tokens = "1girl"
num_repeats = 2
[[datasets.subsets]]
is_reg = true
image_dir = "reg"
"""


def kohya(folder: Path) -> Path:
    """A data set of sd-scripts: five masked pictures, two of which one has no caption, two for
    regularisation."""
    write_set("backgwa_base", folder / "mine", count=5)
    write_set("refinement", folder / "plain", count=2)
    write_set("preview", folder / "reg", count=2)
    (folder / "plain" / "001.txt").unlink()
    (folder / "masks").mkdir()
    for path in sorted((folder / "mine").glob("*.png")):
        size = Image.open(path).size
        Image.new("L", size, 255 if path.stem == "000" else 128).save(folder / "masks" / path.name)
    (folder / "dataset.toml").write_text(CONFIG)
    return folder / "dataset.toml"


def test_a_data_set_of_sd_scripts(tmp_path: Path) -> None:
    artifact = run(tmp_path / "a", dataset_config=kohya(tmp_path))
    manifest = read_json(artifact.path / "manifest.json")
    assert manifest["refused"] == []
    assert {name: (row["count"], row["heldout"]) for name, row in manifest["subsets"].items()} == {
        "mine": (5, 2),
        "plain": (2, 0),
        "reg": (2, 0),
    }
    shown = {name: row["shown"] for name, row in manifest["subsets"].items()}
    assert (
        shown["mine"]["repeats"] == 3
        and shown["mine"]["resolution"] == 64
        and not shown["mine"]["shuffle_tags"]
    )
    assert (
        shown["reg"]["regularisation"] and shown["reg"]["repeats"] == 10
    )  # 5·3 + 2·2 showings, two pictures
    for item in items(artifact, "mine"):
        assert item.tags.startswith("safe, 1girl") and (item.kept_first, item.kept_last) == (1, 0)
        assert item.mask == f"masks/{sha256_file(artifact.path / item.mask)}.png"
    assert {item.file: item.tags for item in items(artifact, "plain")}["001.png"] == "1girl"
    assert not any(item.mask for item in items(artifact, "plain"))


def test_an_older_data_set_keeps_its_masks(tmp_path: Path) -> None:
    old = run(tmp_path / "old", dataset_config=kohya(tmp_path))
    new = run(
        tmp_path / "new", {"old": old}, subsets={"again": [{"dataset": "old", "subset": "mine"}]}
    )
    kept = {item.sha256: (item.mask, item.kept_first, item.file) for item in items(old, "mine")}
    assert {item.sha256: (item.mask, item.kept_first, item.file) for item in items(new)} == kept
    assert all((new.path / item.mask).is_file() for item in items(new))


def test_whatever_changes_in_it_makes_another_stage(tmp_path: Path) -> None:
    config = kohya(tmp_path)

    def written() -> Any:
        return settings(dataset_config=config).keyed()

    seen = [written()]
    assert written() == seen[0]
    Image.new("L", (96, 96), 7).save(tmp_path / "masks" / "000.png")
    seen.append(written())
    (tmp_path / "plain" / "000.txt").write_text("1boy")
    seen.append(written())
    for old, new in (
        ("num_repeats = 3", "num_repeats = 4"),
        ("validation_split = 0.4", ""),
        ("safe |||", "nice |||"),
    ):
        config.write_text(config.read_text().replace(old, new))
        seen.append(written())
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])
    config.write_text(config.read_text() + "\n# a remark\n")
    assert written() == seen[-1]


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = kohya(tmp_path)
    Image.new("L", (50, 50)).save(tmp_path / "masks" / "000.png")
    (tmp_path / "masks" / "001.png").unlink()
    (tmp_path / "masks" / "002.png").write_bytes(b"no picture")
    artifact = run(tmp_path / "a", dataset_config=config)
    refused = {
        row["file"]: row["reason"] for row in read_json(artifact.path / "manifest.json")["refused"]
    }
    assert set(refused) == {"000.png", "001.png", "002.png"}
    assert (
        "its mask has 50×50 pixels" in refused["000.png"]
        and "no mask of its name" in refused["001.png"]
    )
    assert refused["002.png"].startswith("its mask: not a PNG")


def test_transparency_is_a_mask_when_asked(tmp_path: Path) -> None:
    write_set("backgwa_base", tmp_path / "own", count=2)
    picture = Image.open(tmp_path / "own" / "000.png").convert("RGB")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(tmp_path / "own" / "000.png")
    source = {"folder": tmp_path / "own", "alpha_mask": True}
    artifact = run(tmp_path / "a", subsets={"own": [source]})
    assert {item.file: item.mask for item in items(artifact)} == {"000.png": "alpha", "001.png": ""}


def test_numbered_folders_and_regularisation(tmp_path: Path) -> None:
    write_set("backgwa_base", tmp_path / "train" / "10_backgwa", count=2)
    write_set("preview", tmp_path / "reg" / "1_girl", count=4)
    (tmp_path / "train" / "10_backgwa" / "000_anima.npz").touch()
    where = context(tmp_path / "a", lambda: None, "data")
    table = settings(train_data_dir=tmp_path / "train", reg_data_dir=tmp_path / "reg")
    plan = curate.estimate(table, {})
    assert plan.counts == {"backgwa": 2, "girl": 4}
    assert {name: row["repeats"] for name, row in plan.shown.items()} == {"backgwa": 10, "girl": 5}
    artifact = curate.run(Inputs({}), table, where)
    assert {item.subset for item in items(artifact)} == {"backgwa", "girl"}
    assert "left alone beside the pictures: 1 × .npz" in said(where)


def test_larger_pictures_alone(tmp_path: Path) -> None:
    write_set("backgwa_base", tmp_path / "own", count=3)
    big = Image.open(tmp_path / "own" / "000.png")
    big.resize((big.width * 2, big.height * 2)).save(tmp_path / "own" / "000.png")
    artifact = run(
        tmp_path / "a", subsets={"own": [{"folder": tmp_path / "own", "larger_than": 128}]}
    )
    assert [item.file for item in items(artifact)] == ["000.png"]


def test_names_that_stand_twice_and_numbers_that_are_not_read(tmp_path: Path) -> None:
    config = kohya(tmp_path)
    with pytest.raises(
        InputError, match="dataset_config: mine — there is another subset of that name"
    ):
        settings(dataset_config=config, subsets={"mine": [{"toon": "preview"}]})
    own = settings(subsets={"a": [{"folder": tmp_path / "10_name"}]})
    assert own.notes == [
        "a: the 10 in 10_name is not read as repeats here; write repeats = 10 in `data`, or name"
        " the folder around it as train_data_dir"
    ]
    with pytest.raises(ValidationError, match="masks applies to folders only"):
        settings(subsets={"a": [{"toon": "preview", "masks": "x"}]})


def test_what_a_folders_provenance_tells_is_kept(tmp_path: Path) -> None:
    """Origins and rights, the paper, and the history of the model that made some: its share is
    told."""
    lora = "d" * 64
    maker = add(
        [add([], "character", sheet={"trigger": "backgwa"})],
        "model",
        name="r1",
        origin="onmodel",
        sha256=lora,
    )
    rows = {}
    for subset, origin in (("base", "drawn by the author"), ("new", f"generated:{lora}")):
        write_set("backgwa_base" if subset == "base" else "refinement", tmp_path / subset, count=3)
        rows |= {
            f"{subset}/{i:03d}.png": {
                "sha256": sha256_file(tmp_path / subset / f"{i:03d}.png"),
                "origin": origin,
                "rights": "own work",
                "told": "file",
                "paper": "",
                "tags": {},
                "made": {},
            }
            for i in range(3)
        }
    clear = tmp_path / "base" / "000.png"
    Image.open(clear).convert("RGBA").save(clear)
    rows["base/000.png"] |= {"sha256": sha256_file(clear), "paper": "#102030"}
    sources = {
        "base": [{"folder": str(tmp_path / "base")}],
        "new": [{"folder": str(tmp_path / "new")}],
    }
    unknown = settings(subsets=sources).subsets["new"][0].keyed()
    write_json(tmp_path / "provenance.json", {"pictures": rows, "models": {lora: maker}})
    assert settings(subsets=sources).subsets["new"][0].keyed() != unknown
    where = context(tmp_path / "a", lambda: None, "data")
    artifact = curate.run(Inputs({}), settings(subsets=sources), where)
    origins = {item.origin for item in items(artifact, "base")}
    assert origins == {"told:drawn by the author (own work)"}
    assert {item.origin for item in items(artifact, "new")} == {f"generated:{lora}"}
    assert sorted(item.paper for item in items(artifact, "base")) == ["", "", "#102030"]
    lineage = read_json(artifact.path / "lineage.json")
    assert root(maker) in lineage[root(lineage)]["used"]
    assert lineage[root(lineage)]["subsets"]["new"]["self_taught"] == 3
    assert "self_taught" not in lineage[root(lineage)]["subsets"]["base"]
    assert origin_words(lineage[root(lineage)]) == "3 generated, 3 drawn by the author (own work)"
    assert "new: 100% of it was made by the model's own ancestors" in said(where)


def test_a_generated_picture_is_named_split_and_drawn_for_by_its_pixels(tmp_path: Path) -> None:
    """Words in its file, which say how it was made, change nothing of a training on it."""
    rules = CaptionRules(tag_dropout=0.5)
    found = []
    for text in ("code 9", "code 10"):
        source = generated(tmp_path / text, kept=8)
        for path in sorted((source.path / "pictures").glob("*.png")):
            with Image.open(path) as image:
                path.write_bytes(png_bytes(image.convert("RGB"), text))
        artifact = curate.run(
            Inputs({"drawn": source}),
            settings(subsets={"base": [{"stage": "drawn", "count": 6}]}, heldout=0.25),
            context(tmp_path / f"{text} out", lambda: None, "data"),
        )
        found.append(items(artifact))
    assert {item.sha256 for item in found[0]}.isdisjoint(item.sha256 for item in found[1])

    def drawn(rows: list[Item]) -> list[object]:
        return [
            (
                item.image,
                item.split,
                item.group,
                captions_of(item, 2, 2, rules, 0),
                flips_of(item, 9, 0),
            )
            for item in rows
        ]

    assert drawn(found[0]) == drawn(found[1])
    assert len({item.image for item in found[0]}) == 6


def test_the_same_pixels_in_two_files_are_kept_once(tmp_path: Path) -> None:
    one, two = generated(tmp_path / "one", kept=2), generated(tmp_path / "two", kept=2)
    for path in (two.path / "pictures").glob("*.png"):
        with Image.open(path) as image:
            path.write_bytes(png_bytes(image.convert("RGB"), "another text"))
    artifact = curate.run(
        Inputs({"one": one, "two": two}),
        settings(subsets={name: [{"stage": name}] for name in ("one", "two")}),
        context(tmp_path / "out", lambda: None, "data"),
    )
    assert len(items(artifact)) == 4 and len(list((artifact.path / "images").iterdir())) == 2
    for item in items(artifact):
        assert sha256_file(artifact.path / item.image) == item.sha256
