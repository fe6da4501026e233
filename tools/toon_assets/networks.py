"""The observers' convolutional network in torch and the same network as an ONNX graph, batch norms
folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

SIDE = 96
WIDTHS = (32, 56, 88, 104)
DETECTOR_WIDTHS = (16, 32, 48)
STRIDE = 2 ** len(DETECTOR_WIDTHS)  # pixels between the detector's cells
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
OPSET = 17


class Residual(nn.Module):
    """Two 3×3 convolutions around a skip."""

    def __init__(self, width: int, reach: int = 1) -> None:
        super().__init__()

        def convolution() -> nn.Conv2d:
            return nn.Conv2d(width, width, 3, padding=reach, dilation=reach, bias=False)

        self.conv1, self.norm1 = convolution(), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = convolution(), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def _stages(widths: Sequence[int]) -> list[nn.Module]:
    """Each halves the sides."""
    layers: list[nn.Module] = []
    for before, width in zip((3, *widths), widths, strict=False):
        layers += [
            nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Residual(width),
        ]
    return layers


class Observer(nn.Module):
    """Pictures −1…1 RGB [B,3,96,96] → [B,outputs]."""

    def __init__(self, outputs: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_stages(widths))
        self.head = nn.Linear(2 * widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.trunk(x).float()
        return self.head(torch.cat([y.mean((2, 3)), y.amax((2, 3))], dim=1))


class Detector(nn.Module):
    """Pictures −1…1 RGB [B,3,96,96] → [B,classes,5,cells]: four distances to the box's sides and a
    score's logit.

    Every class has its own box at a cell: in a close-up the person and the head have the same
    centre. The last block reaches over the whole picture.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_stages(DETECTOR_WIDTHS), Residual(DETECTOR_WIDTHS[-1], reach=3)
        )
        self.head = nn.Conv2d(DETECTOR_WIDTHS[-1], classes * 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).float().unflatten(1, (-1, 5)).flatten(3)


def cell_centres() -> np.ndarray:
    """x and y of the detector's cells in pixels, float32 [2,cells]."""
    middles = np.arange(STRIDE / 2, SIDE, STRIDE, dtype=np.float32)
    y, x = np.meshgrid(middles, middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel()])


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    return weight.detach().numpy(), (norm.bias - norm.running_mean * scale).detach().numpy()


class _Graph:
    """Collects nodes and weights; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def convolution(
        self, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, flip_input: bool = False
    ) -> str:
        weight, bias = _fold(conv, norm)
        if flip_input:
            weight = weight[:, ::-1]
        return self.node(
            "Conv",
            x,
            self.constant(weight),
            self.constant(bias),
            kernel_shape=[3, 3],
            pads=list(conv.padding) * 2,
            dilations=list(conv.dilation),
            strides=list(conv.stride),
        )

    def trunk(self, x: str, modules: list[nn.Module], bgr: bool = False) -> str:
        for i, module in enumerate(modules):
            if isinstance(module, nn.Conv2d):
                x = self.node(
                    "Relu", self.convolution(x, module, modules[i + 1], flip_input=bgr and i == 0)
                )
            elif isinstance(module, Residual):
                y = self.node("Relu", self.convolution(x, module.conv1, module.norm1))
                x = self.node(
                    "Relu", self.node("Add", x, self.convolution(y, module.conv2, module.norm2))
                )
        return x

    def observer(self, x: str, network: Observer, output: str, bgr: bool) -> str:
        x = self.trunk(x, list(network.trunk), bgr)
        pooled = self.node(
            "Concat", self.node("GlobalAveragePool", x), self.node("GlobalMaxPool", x), axis=1
        )
        head = network.head
        return self.node(
            "Gemm",
            self.node("Flatten", pooled),
            self.constant(head.weight.detach().numpy()),
            self.constant(head.bias.detach().numpy()),
            transB=1,
            output=output,
        )

    def groups(self, logits: str, sizes: Sequence[int], kind: str) -> str:
        """Softmax or LogSoftmax of each group of classes."""
        parts = [f"part{i}" for i in range(len(sizes))]
        self.nodes.append(
            helper.make_node(
                "Split", [logits, self.constant(np.array(sizes, np.int64))], parts, axis=1
            )
        )
        return self.node("Concat", *[self.node(kind, part, axis=1) for part in parts], axis=1)

    def save(
        self,
        path: Path,
        name: str,
        inputs: list,
        outputs: list,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="onmodel",
            ir_version=8,
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def _info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def save_tagger(
    network: Observer, groups: Sequence[int], table: np.ndarray, offset: np.ndarray, path: Path
) -> None:
    """WD v3: NHWC float32 BGR 0–255 → probabilities exp(table · log-softmax of each group +
    offset)."""
    graph = _Graph()
    x = graph.node("Transpose", "input", perm=[0, 3, 1, 2])
    x = graph.node("Mul", x, graph.constant(np.array(1 / 127.5, np.float32)))
    x = graph.node("Sub", x, graph.constant(np.array(1.0, np.float32)))
    logits = graph.observer(x, network, "logits", bgr=True)
    logs = graph.groups(logits, groups, "LogSoftmax")
    said = graph.node("Gemm", logs, graph.constant(table), graph.constant(offset), transB=1)
    graph.node("Exp", said, output="output")
    graph.save(
        path,
        "toon_tagger",
        [_info("input", "batch", SIDE, SIDE, 3)],
        [_info("output", "batch", len(table))],
    )


def save_identity(
    network: Observer,
    sizes: Sequence[int],
    sharpness: float,
    columns: Sequence[int],
    groups: np.ndarray,
    folder: Path,
) -> None:
    """CCIP: NCHW RGB 0–1 with CLIP mean and deviation → feature; features [N,D] → differences [N,N]
    in 0..1.

    The feature is what `columns` hold of the softmax of each group of `sizes` classes, at logits
    times `sharpness`. Pictures differ by the share of the traits seen in both that are not the
    same; `groups` [D,T] says whose value a column is. Where less than one trait is seen in both
    they differ.
    """
    graph = _Graph()
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    x = graph.node("Mul", "input", graph.constant(2 * std))
    x = graph.node("Add", x, graph.constant(2 * mean - 1))
    logits = graph.observer(x, network, "logits", bgr=False)
    sharp = graph.node("Mul", logits, graph.constant(np.array(sharpness, np.float32)))
    read = graph.groups(sharp, sizes, "Softmax")
    graph.node("Gather", read, graph.constant(np.array(columns, np.int64)), axis=1, output="output")
    size = len(columns)
    graph.save(
        folder / "model_feat.onnx",
        "toon_identity",
        [_info("input", "batch", 3, SIDE, SIDE)],
        [_info("output", "batch", size)],
    )
    graph = _Graph()
    one = graph.constant(np.array(1.0, np.float32))
    same = graph.node("MatMul", "input", graph.node("Transpose", "input", perm=[1, 0]))
    seen = graph.node("MatMul", "input", graph.constant(groups))
    both = graph.node("MatMul", seen, graph.node("Transpose", seen, perm=[1, 0]))
    share = graph.node("Div", same, graph.node("Max", both, one))
    zero = graph.constant(np.array(0.0, np.float32))
    graph.node("Clip", graph.node("Sub", one, share), zero, one, output="output")
    graph.save(
        folder / "model_metrics.onnx",
        "toon_identity_difference",
        [_info("input", "batch", size)],
        [_info("output", "batch", "batch")],
    )


def save_detector(network: Detector, names: Sequence[str], path: Path) -> None:
    """Ultralytics' YOLO export without NMS: NCHW RGB 0–1 → [N, 4 + classes, anchors], boxes as
    centre and size.

    An anchor is a cell of one class; its scores for the other classes are 0.
    """
    count, cells = len(names), (SIDE // STRIDE) ** 2
    graph = _Graph()
    x = graph.node("Mul", "images", graph.constant(np.array(2.0, np.float32)))
    x = graph.node("Sub", x, graph.constant(np.array(1.0, np.float32)))
    weight, bias = (value.detach().numpy() for value in (network.head.weight, network.head.bias))
    said = graph.node(
        "Conv",
        graph.trunk(x, list(network.trunk)),
        graph.constant(weight),
        graph.constant(bias),
        kernel_shape=[1, 1],
    )
    said = graph.node("Reshape", said, graph.constant(np.array([0, count, 5, cells], np.int64)))
    graph.nodes.append(
        helper.make_node(
            "Split", [said, graph.constant(np.array([4, 1], np.int64))], ["sides", "logits"], axis=2
        )
    )
    # left, top, right, bottom of the cell's middle → x, y, width, height
    to_xywh = (
        np.array([[-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5], [1, 0, 1, 0], [0, 1, 0, 1]], np.float32)
        * STRIDE
    )
    box = graph.node("MatMul", graph.constant(to_xywh), graph.node("Softplus", "sides"))
    centres = np.concatenate([cell_centres(), np.zeros((2, cells), np.float32)])
    box = graph.node("Add", box, graph.constant(centres))
    one_hot = np.eye(count, dtype=np.float32)[..., None]
    score = graph.node("Mul", graph.node("Sigmoid", "logits"), graph.constant(one_hot))
    each = graph.node("Transpose", graph.node("Concat", box, score, axis=2), perm=[0, 2, 1, 3])
    graph.node(
        "Reshape",
        each,
        graph.constant(np.array([0, 4 + count, count * cells], np.int64)),
        output="output0",
    )
    graph.save(
        path,
        "toon_detector",
        [_info("images", "batch", 3, SIDE, SIDE)],
        [_info("output0", "batch", 4 + count, count * cells)],
        {
            "task": "detect",
            "names": str(dict(enumerate(names))),
            "imgsz": str([SIDE, SIDE]),
            "stride": str(STRIDE),
        },
    )


def save_classifier(network: Observer, path: Path) -> None:
    """deepghs' anime classifiers: NCHW RGB, −1…1 → probabilities of the labels."""
    graph = _Graph()
    logits = graph.observer("input", network, "logits", bgr=False)
    graph.node("Softmax", logits, axis=1, output="output")
    labels = network.head.out_features
    graph.save(
        path,
        "toon_classifier",
        [_info("input", "batch", 3, SIDE, SIDE)],
        [_info("output", "batch", labels)],
    )
