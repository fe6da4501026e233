"""The detector and the corruption classifier that ship with the toon world: their formats, and that
they can see."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import onmodel.toon
from onmodel.randomness import generator
from onmodel.toon.attributes import VOCABULARY, Toon, sample_toon
from onmodel.toon.draw import draw, head_box, person_box

ASSETS = Path(onmodel.toon.__file__).parent / "assets"
SIDE = 96
TRUTH: dict[str, Callable[..., tuple[float, float, float, float]]] = {
    "person": person_box,
    "head": head_box,
}


@pytest.fixture(scope="module")
def detector() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(ASSETS / "detector" / "model.onnx"))


@pytest.fixture(scope="module")
def classifier() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(ASSETS / "corruption" / "model.onnx"))


def pixels(images: list[Image.Image]) -> np.ndarray:
    """Float32 [N,3,96,96], 0…1."""
    rows = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(rows).transpose(0, 3, 1, 2).astype(np.float32) / 255


def toons(count: int, **fixed: str) -> list[Toon]:
    rng = generator(7, "toon assets")
    return [sample_toon(rng, **fixed) for _ in range(count)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    both = np.prod(np.clip(np.minimum(a, b)[2:] - np.maximum(a, b)[:2], 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_the_detector_is_a_yolo_export(detector: onnxruntime.InferenceSession) -> None:
    (given,), (told,) = detector.get_inputs(), detector.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [3, SIDE, SIDE])
    assert isinstance(given.shape[0], str) and told.name == "output0"
    said = detector.get_modelmeta().custom_metadata_map
    assert ast.literal_eval(said["names"]) == {0: "person", 1: "head"}
    assert ast.literal_eval(said["imgsz"]) == [SIDE, SIDE]
    assert (said["task"], said["stride"]) == ("detect", "8")
    (found,) = detector.run(None, {"images": pixels([draw(toon) for toon in toons(3)])})
    assert found.shape == (3, 6, 288)
    assert (found[:, 4:] >= 0).all() and (found[:, 4:] <= 1).all() and (found[:, 2:4] > 0).all()


@pytest.mark.parametrize(("width", "height"), [(96, 96), (80, 112), (112, 80)])
def test_the_detector_finds_a_fresh_toon_and_its_head(
    detector: onnxruntime.InferenceSession, width: int, height: int
) -> None:
    shown = toons(24)
    (found,) = detector.run(None, {"images": pixels([draw(toon, width, height) for toon in shown])})
    for row, name in enumerate(TRUTH, start=4):
        overlaps = []
        for boxes, toon in zip(found, shown, strict=True):
            best = boxes[:, boxes[row].argmax()]
            box = np.concatenate([best[:2] - best[2:4] / 2, best[:2] + best[2:4] / 2]).clip(0, SIDE)
            truth = (
                np.array(TRUTH[name](toon, width, height)) * SIDE / np.array([width, height] * 2)
            )
            overlaps.append(iou(box, truth) if best[row] > 0.25 else 0.0)
        assert np.mean(np.array(overlaps) > 0.5) > 0.9 and np.mean(overlaps) > 0.75, name


def test_the_detector_tells_a_child_from_a_tall_figure(
    detector: onnxruntime.InferenceSession,
) -> None:
    ratio = {}
    for body in ("chibi", "normal", "tall"):
        shown = [draw(toon, 80, 112) for toon in toons(12, framing="full body", body=body)]
        (found,) = detector.run(None, {"images": pixels(shown)})
        height = {row: [boxes[3, boxes[row].argmax()] for boxes in found] for row in (4, 5)}
        ratio[body] = np.mean(np.array(height[5]) / np.array(height[4]))
    assert ratio["chibi"] > 1.25 * ratio["normal"] and ratio["normal"] > 1.1 * ratio["tall"]


def test_the_classifier_has_the_labels_and_gives_probabilities(
    classifier: onnxruntime.InferenceSession,
) -> None:
    (given,), (told,) = classifier.get_inputs(), classifier.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("input", "tensor(float)", [3, SIDE, SIDE])
    assert isinstance(given.shape[0], str) and told.name == "output"
    labels = json.loads((ASSETS / "corruption" / "meta.json").read_text())["labels"]
    assert labels == ["corrupted", "normal"]
    (found,) = classifier.run(None, {"input": pixels([draw(toon) for toon in toons(3)]) * 2 - 1})
    assert found.shape == (3, 2) and (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("style", VOCABULARY["style"])
def test_a_noised_picture_reads_more_corrupted_than_its_clean_one(
    classifier: onnxruntime.InferenceSession, style: str
) -> None:
    clean = pixels([draw(toon) for toon in toons(8, style=style)])
    noise = generator(7, "grain").normal(0, 0.2, clean.shape).astype(np.float32)
    before, after = (
        classifier.run(None, {"input": x * 2 - 1})[0][:, 0]
        for x in (clean, (clean + noise).clip(0, 1))
    )
    assert (after > before).all() and np.mean(before) < 0.3 < 0.7 < np.mean(after)


def test_the_files_stay_small() -> None:
    assert (ASSETS / "detector" / "model.onnx").stat().st_size < 600_000
    assert (ASSETS / "corruption" / "model.onnx").stat().st_size < 400_000
