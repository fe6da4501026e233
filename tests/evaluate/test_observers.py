"""Observers: file formats, preprocessing to the pixel, colours and boxes whose answer is known, and
clear refusals."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from PIL import Image, ImageDraw

from onmodel.errors import InputError
from onmodel.evaluate.observers import load_observers
from onmodel.evaluate.observers.classifier import AESTHETIC, CORRUPTION, Classifier
from onmodel.evaluate.observers.colour import SECTORS, colours
from onmodel.evaluate.observers.copy import copy_embedding
from onmodel.evaluate.observers.detector import Detectors
from onmodel.evaluate.observers.embedding import Embedding
from onmodel.evaluate.observers.grain import grain
from onmodel.evaluate.observers.identity import CLIP_DEVIATION, CLIP_MEAN, Identity
from onmodel.evaluate.observers.layout import figure_box
from onmodel.evaluate.observers.source import find
from onmodel.evaluate.observers.tagger import Tagger
from onmodel.randomness import generator
from onmodel.stages.evaluate import Settings
from onmodel.toon.attributes import Toon
from onmodel.toon.draw import draw
from tests.support.onnx_files import (
    write_classifier,
    write_detector,
    write_embedding,
    write_identity,
    write_tagger,
)

RED, GREEN = Image.new("RGB", (40, 40), (255, 0, 0)), Image.new("RGB", (40, 40), (0, 255, 0))
TAGS = [("general", 9), ("long hair", 0), ("red thing", 0), ("green thing", 0)]
WEIGHTS = np.array(
    [[0, 0, 0], [0, 0, 0], [-4, -4, 4], [-4, 4, -4]], dtype=np.float32
)  # columns B, G, R


def test_tagger_reads_bgr_leaves_ratings_out_and_knows_its_columns(tmp_path: Path) -> None:
    tagger = Tagger(write_tagger(tmp_path, TAGS, WEIGHTS), threads=1)
    assert tagger.tags == ["long hair", "red thing", "green thing"]
    assert tagger.columns(["green thing", "unheard of"]) == {"green thing": 2}
    found = tagger([RED, GREEN])
    assert found.shape == (2, 3) and found.dtype == np.float32
    assert found[0] == pytest.approx([0.5, 1 / (1 + np.exp(-4)), 1 / (1 + np.exp(4))], abs=1e-5)
    assert found[1, 2] > 0.95


def test_tagger_pads_with_white_to_a_square(tmp_path: Path) -> None:
    tagger = Tagger(write_tagger(tmp_path, TAGS, WEIGHTS), threads=1)
    wide = Image.new("RGB", (80, 40), (255, 0, 0))
    red, other = 255.0, 127.5  # half of the square is white
    expected = 1 / (1 + np.exp(-(4 * red - 4 * other - 4 * other) / 255))
    assert tagger([wide])[0, 1] == pytest.approx(expected, abs=1e-2)


def test_tagger_with_a_fixed_batch_of_one_and_other_tensor_names(tmp_path: Path) -> None:
    free = Tagger(write_tagger(tmp_path / "a", TAGS, WEIGHTS), threads=1)
    fixed = Tagger(write_tagger(tmp_path / "b", TAGS, WEIGHTS, batch=1, name="pixels"), threads=1)
    pictures = [RED, GREEN] * 20
    assert np.array_equal(free(pictures), fixed(pictures))


def test_identity_normalises_as_clip_and_stretches(tmp_path: Path) -> None:
    identity = Identity(write_identity(tmp_path, np.eye(3)), threads=1)
    found = identity([RED, Image.new("RGB", (10, 90), (255, 0, 0))])
    expected = (np.array([1, 0, 0]) - CLIP_MEAN) / CLIP_DEVIATION
    assert found[0] == pytest.approx(expected, abs=1e-4) and found[1] == pytest.approx(
        expected, abs=1e-4
    )


def test_differences_are_those_of_the_models_own_file(tmp_path: Path) -> None:
    identity = Identity(write_identity(tmp_path, np.eye(2, 3)), threads=1)
    a = np.array([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]] * 100, dtype=np.float32)
    found = identity.differences(a, a[:1] * 7)
    assert found.shape == (300, 1) and found[-3:, 0] == pytest.approx([0, 0.5, 1])


def test_the_same_files_have_the_same_name_and_others_another(tmp_path: Path) -> None:
    one = Tagger(write_tagger(tmp_path / "a", TAGS, WEIGHTS), threads=1)
    two = Tagger(write_tagger(tmp_path / "b", TAGS, WEIGHTS * 2), threads=1)
    assert one.sha256 != two.sha256
    assert one.sha256 == Tagger(tmp_path / "a", threads=2).sha256


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"observers.tagger.*no such file"):
        Tagger(tmp_path, threads=1)
    write_tagger(tmp_path, TAGS, WEIGHTS)
    (tmp_path / "selected_tags.csv").write_text("nonsense\n1\n")
    with pytest.raises(InputError, match="columns name and category"):
        Tagger(tmp_path, threads=1)
    write_tagger(tmp_path, TAGS[:3], WEIGHTS)
    with pytest.raises(InputError, match="4 outputs"):
        Tagger(tmp_path, threads=1)([RED])
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="no ONNX model"):
        Tagger(tmp_path, threads=1)
    with pytest.raises(InputError, match=r"observers.identity.*no such file"):
        Identity(tmp_path, threads=1)


def test_another_base_brings_no_observers(tmp_path: Path) -> None:
    found = load_observers(
        "anima", {"identity": str(write_identity(tmp_path, np.eye(3)))}, threads=1
    )
    assert found.tagger is None and list(found.sha256) == ["identity"]


@pytest.mark.parametrize(
    ("colour", "sector"),
    [
        ((255, 0, 0), "orange"),
        ((255, 150, 0), "amber"),
        ((255, 230, 0), "yellow"),
        ((0, 160, 0), "green"),
        ((0, 0, 255), "purple"),
    ],
)
def test_hues_fall_into_their_sector(colour: tuple[int, int, int], sector: str) -> None:
    _, shares = colours(Image.new("RGB", (64, 64), colour), {})
    assert SECTORS[int(shares[0].argmax())] == sector and shares[0].sum() == pytest.approx(1)


def test_palette_and_grey_do_not_count_as_area() -> None:
    yellow = Image.new("RGB", (64, 64), (252, 202, 24))
    assert colours(yellow, {"eyes": "#fcca18"})[1].sum() == 0
    assert colours(yellow, {"hair": "#98d8fa"})[1][0, SECTORS.index("yellow")] == 1
    assert colours(Image.new("RGB", (64, 64), (200, 198, 200)), {})[1].sum() == 0


def test_background_is_the_border() -> None:
    image = Image.new("RGB", (100, 100), (255, 255, 255))
    ImageDraw.Draw(image).rectangle((30, 30, 70, 99), fill=(255, 230, 0))
    lab, shares = colours(image, {})
    assert lab[0, 2] > 10 and abs(lab[1, 2]) < 0.5
    assert shares[0].sum() > 0.2 and shares[1].sum() == 0


def test_colours_survive_another_resolution_and_jpeg(tmp_path: Path) -> None:
    image = Image.new("RGB", (96, 96), (250, 250, 252))
    ImageDraw.Draw(image).ellipse((20, 20, 80, 90), fill=(250, 200, 60))
    image.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as jpeg:
        lab, shares = colours(jpeg.convert("RGB"), {})
    expected, areas = colours(image, {})
    assert np.abs(lab - expected).max() < 1 and np.abs(shares - areas).max() < 0.03
    large, large_areas = colours(image.resize((768, 768), Image.Resampling.NEAREST), {})
    assert np.abs(large - expected).max() < 1 and np.abs(large_areas - areas).max() < 0.03


def test_figure_box_finds_place_and_shape() -> None:
    image = Image.new("RGB", (100, 100), (120, 180, 250))
    ImageDraw.Draw(image).rectangle((50, 20, 79, 79), fill=(200, 40, 40))
    x, y, size, tall = figure_box(image)
    assert (x, y) == pytest.approx((0.65, 0.5), abs=0.03)
    assert size == pytest.approx((0.3 * 0.6) ** 0.5, abs=0.04) and tall == pytest.approx(
        np.log(2), abs=0.15
    )


def test_figure_box_follows_a_sky_and_survives_an_empty_picture() -> None:
    sky = Image.linear_gradient("L").resize((100, 100)).convert("RGB")
    assert figure_box(sky).tolist() == [0.5, 0.5, 1.0, 0.0]
    ImageDraw.Draw(sky).ellipse((35, 40, 65, 90), fill=(255, 0, 80))
    assert figure_box(sky)[:2] == pytest.approx([0.5, 0.65], abs=0.03)


def test_a_copy_is_nearer_than_another_picture_whatever_its_tint_or_size() -> None:
    toons = [
        Toon(nuisance=seed, background=background)
        for seed, background in ((1, "forest"), (2, "beach"))
    ]
    one, other = (draw(toon, 96, 96) for toon in toons)
    tinted = Image.blend(one, Image.new("RGB", one.size, (255, 206, 70)), 0.2).resize((192, 192))
    assert copy_embedding(one) @ copy_embedding(tinted) > 0.95
    assert copy_embedding(one) @ copy_embedding(other) < 0.8
    assert np.abs(copy_embedding(RED)).max() < 1e-5


def test_grain_reads_the_noise_and_not_the_drawing() -> None:
    drawing = np.asarray(draw(Toon(background="forest"), 96, 96), dtype=float)
    for deviation in (0.0, 6.0, 12.0):
        noisy = drawing + generator(1, "grain").normal(0, deviation, (96, 96, 1))
        assert grain(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))) == pytest.approx(
            deviation, abs=1.5
        )
    dots = draw(Toon(background="forest", style="comic"), 96, 96)
    stored = io.BytesIO()
    dots.save(stored, "JPEG", quality=95)
    assert grain(dots) < 1 and grain(Image.open(stored)) < 1.5
    assert grain(Image.new("RGB", (8, 30))) == 0


HEADS = np.array([[16, 8, 8, 8], [16.5, 8, 8, 8], [4, 4, 4, 4], [16, 16, 16, 32]], dtype=np.float32)


def test_boxes_are_shares_of_the_picture_and_the_same_head_counts_once(tmp_path: Path) -> None:
    scores = np.array([[0.1, 0.0, 0.2, 0.95], [0.8, 0.9, 0.5, 0.0]])  # of person, of head
    folder = write_detector(tmp_path, {0: "person", 1: "head"}, HEADS, scores)
    parts, heads = Detectors([folder], threads=1)([RED.resize((96, 48)), GREEN])
    assert parts[0, 0] == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.95])
    assert parts[0, 1] == pytest.approx([16.5 / 32, 0.25, 0.25, 0.25, 0.9])
    assert (
        heads.tolist() == [2, 0] and not parts[1].any()
    )  # two of the three boxes are one head; nothing is on green


def test_several_detectors_are_one_and_the_first_that_knows_a_part_tells_it(tmp_path: Path) -> None:
    person = write_detector(tmp_path / "p", {0: "person"}, HEADS[3:], np.array([[0.9]]))
    head = write_detector(
        tmp_path / "h", {0: "head", 1: "person"}, HEADS[:1], np.array([[0.8], [0.99]])
    )
    parts, heads = Detectors([person, head], threads=1)([RED])
    assert parts[0, :, 4] == pytest.approx([0.9, 0.8]) and heads.tolist() == [1]
    assert Detectors([person], 1).sha256 != Detectors([person, head], 1).sha256


def test_a_detector_needs_its_metadata_and_something_to_look_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="detects hand; needed is person or head"):
        Detectors([write_detector(tmp_path / "a", {0: "hand"}, HEADS[:1], np.array([[0.5]]))], 1)
    write_embedding(tmp_path / "b")
    with pytest.raises(InputError, match="no names and imgsz"):
        Detectors([tmp_path / "b"], 1)
    one = write_detector(tmp_path / "c", {0: "head"}, HEADS[:1], np.array([[0.5]]))
    model = onnx.load(one / "model.onnx")
    model.metadata_props[0].value = "{0: 'head', 1: 'person'}"
    onnx.save(model, one / "model.onnx")
    with pytest.raises(
        InputError, match=r"its output is \[None, 5, 1\]; export it without NMS, as \[N, 6, boxes\]"
    ):
        Detectors([one], 1)


def test_a_classifier_gives_the_expected_value_of_its_labels_in_any_order(tmp_path: Path) -> None:
    weights = np.array([[3.0, 0, 0], [0, 0, 0]])
    folder = write_classifier(tmp_path, ["corrupted", "normal"], weights)
    found = Classifier("corruption", folder, CORRUPTION, 1)([RED, GREEN, RED])
    assert found == pytest.approx(
        [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3)), 1 / (1 + np.exp(-3))], abs=1e-4
    )
    worst_first = write_classifier(
        tmp_path / "b", list(AESTHETIC), np.zeros((7, 3)), side="side"
    )  # 384 then
    assert Classifier("aesthetic", worst_first, AESTHETIC, 1)([RED]) == pytest.approx(
        [0.5], abs=1e-5
    )


def test_a_classifier_with_other_labels_or_no_probabilities_is_refused(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, ["real", "ai"], np.eye(2, 3))
    with pytest.raises(
        InputError, match=r"meta\.json.*its labels are real, ai; needed: normal, corrupted"
    ):
        Classifier("corruption", folder, CORRUPTION, 1)
    folder = write_classifier(tmp_path, ["normal", "corrupted"], np.eye(2, 3) * 9, softmax=False)
    with pytest.raises(InputError, match="add up to 1"):
        Classifier("corruption", folder, CORRUPTION, 1)([RED])
    (folder / "meta.json").write_text("{}")
    with pytest.raises(InputError, match='must be JSON with "labels"'):
        Classifier("corruption", folder, CORRUPTION, 1)


def test_an_embedding_is_normalised_as_its_file_says_and_of_unit_length(tmp_path: Path) -> None:
    found = Embedding("style_embedding", write_embedding(tmp_path, (0.5, 0.5, 0.5)), 1)(
        [RED, GREEN]
    )
    assert found == pytest.approx(np.array([[1, -1, -1], [-1, 1, -1]]) / 3**0.5, abs=1e-5)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5]}))
    with pytest.raises(InputError, match="image_mean and image_std"):
        Embedding("style_embedding", tmp_path, 1)


def test_a_folder_tells_its_licence_and_no_path(tmp_path: Path) -> None:
    folder = write_embedding(tmp_path / "csd")
    found = find("style_embedding", str(folder))
    assert (found.named, found.folder, found.licence) == ("csd", folder, None)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: fair-ai\n---\nWords.\n")
    assert find("style_embedding", str(folder)).licence == "fair-ai"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert find("style_embedding", str(folder)).licence is None
    with pytest.raises(InputError, match=r"tagger: .*nowhere — no such folder"):
        find("tagger", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"tagger: .*csd — has no selected_tags\.csv"):
        find("tagger", str(folder))


def test_what_is_wrong_with_names_is_in_the_plan(tmp_path: Path) -> None:
    folder = write_embedding(tmp_path / "csd")
    named = {
        "tagger": "hf://nobody",
        "detectors": folder,
        "aesthetic": tmp_path / "nowhere",
        "style_embedding": folder,
    }
    settings = Settings(do="evaluate", models=["a"], **named)
    assert settings.detectors == (folder,)  # one needs no list
    told = [str(error).partition(" — ")[2] for error in settings.missing]
    assert told[0].startswith("write hf://owner/name") and told[1:] == ["no such folder"]


def test_the_hub_gives_what_its_cache_holds_and_says_so_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"tagger: somebody/taggers — is not in the local cache .* name its folder"
    ):
        find("tagger", "hf://somebody/taggers")
    with pytest.raises(InputError, match="write hf://owner/name"):
        find("tagger", "hf://somebody")
    revision = "0" * 40
    held = tmp_path / "models--somebody--taggers"
    write_tagger(held / "snapshots" / revision / "small" / "v3", TAGS, WEIGHTS)
    (held / "snapshots" / revision / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text(revision)
    for named in ("hf://somebody/taggers/small/v3", f"hf://somebody/taggers@{revision}/small/v3"):
        found = load_observers("anima", {"tagger": named}, threads=1)
        assert found.tagger is not None and found.tagger.tags[0] == "long hair"
        with pytest.raises(InputError, match=r"has no small/v3/meta\.json"):
            find("aesthetic", named)
        assert [(one.named, one.licence) for one in found.sources["tagger"]] == [
            (named, "apache-2.0")
        ]


def network(
    folder: Path,
    answer: list[int | str],
    *,
    kind: int = TensorProto.FLOAT,
    value: float = 1.0,
    side: int | str = 32,
    rows: int | None = None,
) -> Path:
    """An embedding's folder whose model answers `value` in a shape, to a picture of any element
    type."""
    write_embedding(folder)
    shape = [1, 3] if rows is None else [rows, 3]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "value"], ["each"])
        if rows is None
        else helper.make_node("Identity", ["value"], ["each"]),
    ]
    given = {
        "axes": np.array([2, 3], dtype=np.int64),
        "value": np.full(shape, value, dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "wrong",
        [helper.make_tensor_value_info("pixels", kind, ["n", 3, side, side])],
        [helper.make_tensor_value_info("each", TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"value": float("nan")}, "NaN or infinity"),
        ({"value": float("inf")}, "NaN or infinity"),
        ({"kind": TensorProto.UINT8}, "one picture input of float32"),
        ({"side": "open"}, "side must be written in the file"),
        ({"side": 100_000}, "1 to 4096"),
        ({"rows": 3}, r"answers \[3, 3\] to 2 pictures"),
        ({"rows": 0}, r"answers \[0, 3\] to 2 pictures"),
    ],
)
def test_a_network_that_does_not_fit_is_a_line_and_never_a_number(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = network(tmp_path, ["m", 3], **more)
    with pytest.raises(InputError, match=said) as error:
        load_observers("anima", {"copy_embedding": str(folder)}, threads=1).copy_embedding(
            [RED, GREEN]
        )  # type: ignore[misc]
    assert "observers.copy_embedding" in str(error.value) and "\n" not in str(error.value)


def empty(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")


def without_data(folder: Path) -> None:
    outside(folder, "weights.bin")
    (folder / "weights.bin").unlink()


def outside(folder: Path, location: str = "../weights.bin") -> None:
    model = onnx.load(folder / "model.onnx")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    (folder / "model.onnx").unlink()
    onnx.save(model, folder / "model.onnx")
    if location != "weights.bin":
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for entry in (
            entry for tensor in model.graph.initializer for entry in tensor.external_data
        ):
            entry.value = location if entry.key == "location" else entry.value
        (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty, "is empty"),
        (without_data, "needs the file weights.bin beside it"),
        (outside, "no file in its folder"),
        (lambda folder: outside(folder, "/etc/passwd"), "no file in its folder"),
        (lambda folder: (folder / "model.onnx").unlink(), "has no model.onnx"),
    ],
)
def test_a_file_that_cannot_work_is_told_with_the_plan(
    spoil: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    spoil(write_embedding(tmp_path))
    (error,) = Settings(do="evaluate", models=["a"], style_embedding=tmp_path).missing
    assert said in str(error) and "style_embedding" in str(error)
    with pytest.raises(InputError, match=said):
        load_observers("anima", {"style_embedding": str(tmp_path)}, threads=1)


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        (
            "style_embedding",
            "preprocessor_config.json",
            '{"image_mean": [0, 0, 0], "image_std": [0, 1, 1]}',
        ),
        (
            "style_embedding",
            "preprocessor_config.json",
            '{"image_mean": [NaN, 0, 0], "image_std": [1, 1, 1]}',
        ),
        ("style_embedding", "preprocessor_config.json", "[]"),
        ("style_embedding", "preprocessor_config.json", '{"image_mean": [0], "image_std": [1]}'),
        ("corruption", "meta.json", '{"labels": 3}'),
        ("corruption", "meta.json", '{"labels": [["normal"], "corrupted"]}'),
        ("corruption", "meta.json", '{"labels": ["normal", "normal"]}'),
        ("corruption", "meta.json", "[" * 100_000),
        ("corruption", "meta.json", '{"labels": '),
        ("tagger", "selected_tags.csv", "name,category\nsmile,0\n"),
        ("tagger", "selected_tags.csv", "name,category\n"),
        ("tagger", "selected_tags.csv", "\x00\x00"),
        ("tagger", "selected_tags.csv", "name,category\nsmile\n"),
    ],
)
def test_a_table_beside_a_network_that_is_wrong_is_a_line(
    name: str, file: str, text: str, tmp_path: Path
) -> None:
    if name == "tagger":
        write_tagger(tmp_path, TAGS, WEIGHTS)
    elif name == "corruption":
        write_classifier(tmp_path, ["normal", "corrupted"], np.eye(2, 3))
    else:
        write_embedding(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=file) as error:
        load_observers("anima", {name: str(tmp_path)}, threads=1)
    assert "\n" not in str(error.value)
    (tmp_path / file).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=file):
        load_observers("anima", {name: str(tmp_path)}, threads=1)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'head', 5: 'person'}"),
        ("names", "3"),
        ("names", "(" * 5_000),
        ("names", "{-1: 'head'}"),
        ("imgsz", "[0, 32]"),
        ("imgsz", "[1000000, 1000000]"),
        ("imgsz", "[1e400, 3]"),
        ("imgsz", "32"),
    ],
)
def test_a_detector_with_wrong_metadata_is_a_line(key: str, text: str, tmp_path: Path) -> None:
    write_detector(tmp_path, {0: "head"}, np.zeros((1, 4)), np.ones((1, 1)))
    model = onnx.load(tmp_path / "model.onnx")
    helper.set_model_props(model, {"names": "{0: 'head'}", "imgsz": "[32, 32]", key: text})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"observers\.detectors.*metadata"):
        load_observers("anima", {"detectors": str(tmp_path)}, threads=1)


def test_onnxruntime_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    """In a process of its own: the records of use are switched off before it is loaded."""
    write_tagger(tmp_path / "tagger", [("a", 0)], np.ones((1, 3), np.float32))
    (home := tmp_path / "home").mkdir()
    program = (
        "import sys; from pathlib import Path; from onmodel.evaluate.observers.onnx import Network;"
        " Network('tagger', Path(sys.argv[1]), 1)"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "tagger" / "model.onnx")]
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG"))}
    places = {"HOME": str(home), "TMPDIR": str(home)}
    subprocess.run(words, env=plain | places, check=True)
    assert list(home.rglob("*")) == []
