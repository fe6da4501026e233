"""Tiny observers in the field's file formats: a linear read-out of the mean colour, so that a test knows the answer."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_tagger(folder: Path, tags: Sequence[tuple[str, int]], weights: np.ndarray, side: int = 32,
                 batch: int | str = "N", name: str = "input_1:0") -> Path:  # fmt: skip
    """`tags`: (name, category); probability = sigmoid(weights [T, 3] · mean BGR / 255)."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["predictions_sigmoid"]),
    ]
    given = {"axes": np.array([1, 2], dtype=np.int64), "weights": (weights.T / 255).astype(np.float32)}
    _save(
        folder / "model.onnx", nodes, given, (name, [batch, side, side, 3]), ("predictions_sigmoid", [batch, len(tags)])
    )
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tag_id", "name", "category", "count"))
        writer.writerows((i, tag.replace(" ", "_"), category, 100) for i, (tag, category) in enumerate(tags))
    return folder


def write_identity(folder: Path, weights: np.ndarray, side: int = 32) -> Path:
    """Feature = weights [F, 3] · mean of the normalised RGB; CCIP's own difference, (1 − cosine) / 2."""
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
    _save(folder / "model_metrics.onnx", compared, numbers, ("input", ["batch", width]), ("output", ["batch", "batch"]))
    return folder


def _save(
    path: Path, nodes: list, given: dict[str, np.ndarray], entry: tuple[str, list], exit: tuple[str, list]
) -> None:
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
        [helper.make_tensor_value_info(exit[0], TensorProto.FLOAT, exit[1])],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)
