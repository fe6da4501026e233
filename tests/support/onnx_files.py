"""Tiny observers in the field's file formats: a linear read-out of the mean colour, so that a test
knows the answer."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_tagger(
    folder: Path,
    tags: Sequence[tuple[str, int]],
    weights: np.ndarray,
    side: int = 32,
    batch: int | str = "N",
    name: str = "input_1:0",
) -> Path:
    """`tags`: (name, category); probability = sigmoid(weights [T, 3] · mean BGR / 255)."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["predictions_sigmoid"]),
    ]
    given = {
        "axes": np.array([1, 2], dtype=np.int64),
        "weights": (weights.T / 255).astype(np.float32),
    }
    _save(
        folder / "model.onnx",
        nodes,
        given,
        (name, [batch, side, side, 3]),
        ("predictions_sigmoid", [batch, len(tags)]),
    )
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tag_id", "name", "category", "count"))
        writer.writerows(
            (i, tag.replace(" ", "_"), category, 100) for i, (tag, category) in enumerate(tags)
        )
    return folder


def write_identity(folder: Path, weights: np.ndarray, side: int = 32) -> Path:
    """Feature = weights [F, 3] · mean of the normalised RGB; CCIP's own difference, (1 − cosine) /
    2."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["output"]),
    ]
    given = {"axes": np.array([2, 3], dtype=np.int64), "weights": weights.T.astype(np.float32)}
    _save(
        folder / "model_feat.onnx",
        nodes,
        given,
        ("input", ["batch", 3, side, side]),
        ("output", ["batch", len(weights)]),
    )
    compared = [
        helper.make_node("LpNormalization", ["input"], ["unit"], axis=1, p=2),
        helper.make_node("Transpose", ["unit"], ["across"], perm=[1, 0]),
        helper.make_node("MatMul", ["unit", "across"], ["cosine"]),
        helper.make_node("Sub", ["one", "cosine"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["output"]),
    ]
    numbers = {"one": np.array(1, dtype=np.float32), "half": np.array(0.5, dtype=np.float32)}
    width = len(weights)
    _save(
        folder / "model_metrics.onnx",
        compared,
        numbers,
        ("input", ["batch", width]),
        ("output", ["batch", "batch"]),
    )
    return folder


def write_detector(
    folder: Path, names: dict[int, str], boxes: np.ndarray, scores: np.ndarray, side: int = 32
) -> Path:
    """`boxes` [A, 4] in pixels of the input, the same for every picture; scores [C, A] times the
    mean of red."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "red"], ["shade"]),
        helper.make_node("Reshape", ["shade", "each"], ["shades"]),
        helper.make_node("Mul", ["shades", "scores"], ["seen"]),
        helper.make_node("Mul", ["shades", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "boxes"], ["placed"]),
        helper.make_node("Concat", ["placed", "seen"], ["output0"], axis=1),
    ]
    given = {
        "axes": np.array([2, 3], dtype=np.int64),
        "red": np.array([[1], [0], [0]], dtype=np.float32),
        "each": np.array([-1, 1, 1], dtype=np.int64),
        "zero": np.zeros((1, 1, 1), dtype=np.float32),
        "boxes": boxes.T[None].astype(np.float32),
        "scores": scores[None].astype(np.float32),
    }
    exit = ("output0", ["batch", 4 + len(names), len(boxes)])
    facts = {"names": str(names), "imgsz": str([side, side])}
    _save(
        folder / "model.onnx",
        nodes,
        given,
        ("images", ["batch", 3, "height", "width"]),
        exit,
        facts,
    )
    return folder


def write_classifier(
    folder: Path,
    labels: Sequence[str],
    weights: np.ndarray,
    side: int | str = 32,
    softmax: bool = True,
) -> Path:
    """Probabilities = softmax(weights [labels, 3] · mean of the RGB in −1…1)."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax" if softmax else "Identity", ["logits"], ["output"]),
    ]
    given = {"axes": np.array([2, 3], dtype=np.int64), "weights": weights.T.astype(np.float32)}
    sizes = ["batch", 3, side, side]
    _save(folder / "model.onnx", nodes, given, ("input", sizes), ("output", ["batch", len(labels)]))
    (folder / "meta.json").write_text(json.dumps({"labels": list(labels)}))
    return folder


def write_embedding(folder: Path, mean: Sequence[float] = (0.0, 0.0, 0.0), side: int = 32) -> Path:
    """The mean of the normalised RGB."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [helper.make_node("ReduceMean", ["pixel_values", "axes"], ["image_embeds"], keepdims=0)]
    given = {"axes": np.array([2, 3], dtype=np.int64)}
    entry = ("pixel_values", ["batch", 3, side, side])
    _save(folder / "model.onnx", nodes, given, entry, ("image_embeds", ["batch", 3]))
    facts = {"image_mean": list(mean), "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def _save(
    path: Path,
    nodes: list,
    given: dict[str, np.ndarray],
    entry: tuple[str, list],
    exit: tuple[str, list],
    facts: dict[str, str] | None = None,
) -> None:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
        [helper.make_tensor_value_info(exit[0], TensorProto.FLOAT, exit[1])],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    helper.set_model_props(model, facts or {})
    onnx.save(model, path)
