"""Trains the corruption classifier (format of deepghs' anime classifiers) on whole pictures and on
spoilt copies.

Whole pictures are renders, what the VAE makes of them and what the base draws; both classes are
soiled alike, so that softness, a little grain and another colour mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from onmodel.toon.attributes import Toon
from onmodel.toon.draw import head_box

from . import drawn, networks, observers, pictures
from .common import SEED, Settings, log, write_json
from .networks import SIDE

LABELS = ("corrupted", "normal")
WIDTHS = (16, 24, 36, 40)


def _noise(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grain of one to three pixels, grey or coloured."""
    grain = int(rng.integers(1, 4))
    cells = -(-SIDE // grain)
    field = (
        rng.standard_normal((cells, cells, rng.choice([1, 3]))).repeat(grain, 0).repeat(grain, 1)
    )
    return x + np.exp(rng.uniform(np.log(20), np.log(80))) * field[:SIDE, :SIDE]


def _swept(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Pulled out of shape by up to some `amount` pixels, in smooth waves."""
    coarse = rng.standard_normal((2, 7, 7)).astype(np.float32)
    waves = [
        np.asarray(Image.fromarray(w).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for w in coarse
    ]
    y, x_ = np.mgrid[:SIDE, :SIDE] + amount * np.stack(waves)
    return np.stack(
        [ndimage.map_coordinates(x[..., c], [y, x_], order=1, mode="nearest") for c in range(3)],
        axis=2,
    )


def _spot(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """A soft-edged ellipse, 0…1 [96,96,1]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    far = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    return np.clip((1.2 - far) * 5, 0, 1)[..., None]


def _melted(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A large patch runs and blurs."""
    centre, radii = rng.uniform(0.25, 0.75, 2) * SIDE, rng.uniform(0.25, 0.7, 2) * SIDE
    blurred = ndimage.gaussian_filter(
        _swept(x, rng.uniform(4, 9), rng), (*[rng.uniform(0.6, 2)] * 2, 0)
    )
    spot = _spot(tuple(centre), tuple(radii))
    return x + spot * (blurred - x)


def _smeared(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The head alone is wiped in one direction and pulled out of shape."""
    width, height = np.maximum(head[2:] - head[:2], 12)
    axis = int(rng.integers(2))
    wiped = _swept(x, rng.uniform(0.05, 0.12) * min(width, height), rng)
    wiped = ndimage.uniform_filter1d(
        wiped, max(int(rng.uniform(0.35, 0.7) * (height, width)[axis]), 5), axis=axis
    )
    spot = _spot(tuple((head[:2] + head[2:]) / 2), (width / 2, height / 2))
    return x + spot * (wiped - x)


def _blocks(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Squares of the picture, larger than pixel art's, lose their content or change places and
    colours."""
    side = int(rng.choice([8, 12, 16]))
    out = x.copy()
    for top in range(0, SIDE, side):
        for left in range(0, SIDE, side):
            here = np.s_[top : top + side, left : left + side]
            if rng.random() < 0.45:
                y, x_ = rng.integers(0, SIDE - side + 1, 2)
                what = (
                    x[y : y + side, x_ : x_ + side] if rng.random() < 0.5 else x[here].mean((0, 1))
                )
                out[here] = what + rng.normal(0, 22, 3)
    return out


def _bands(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows or columns in stripes of wrong colours."""
    thick = int(rng.integers(3, 10))
    stripes = rng.normal(0, rng.uniform(28, 60), (-(-SIDE // thick), 1, 3)).repeat(thick, 0)[:SIDE]
    return x + (stripes if rng.random() < 0.6 else stripes.transpose(1, 0, 2))


def _torn(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strips across the picture slide sideways."""
    out = (x if (down := rng.random() < 0.6) else x.transpose(1, 0, 2)).copy()
    for _ in range(int(rng.integers(2, 6))):
        start, thick = int(rng.integers(10, SIDE - 24)), int(rng.integers(5, 18))
        out[start : start + thick] = np.roll(
            out[start : start + thick], int(rng.choice([-1, 1]) * rng.integers(10, 40)), 1
        )
    return out if down else out.transpose(1, 0, 2)


def _ghost(x: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The figure a second time, half transparent, beside itself."""
    dx, dy = int(rng.choice([-1, 1]) * rng.integers(9, 30)), int(rng.integers(-14, 15))
    padded = np.pad(x, ((14, 14), (30, 30), (0, 0)), mode="edge")
    second = padded[14 + dy : 14 + dy + SIDE, 30 + dx : 30 + dx + SIDE]
    if rng.random() < 0.3:
        second = second[:, ::-1]
    return x + rng.uniform(0.35, 0.5) * (second - x)


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "melted": _melted,
    "smeared face": _smeared,
    "blocks": _blocks,
    "bands": _bands,
    "torn": _torn,
    "ghost": _ghost,
}


def corrupt(image: np.ndarray, kind: str, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 [96,96,3] spoilt in one way; `head` is its box x0 y0 x1 y1."""
    return KINDS[kind](image.astype(np.float32), head, rng).clip(0, 255).astype(np.uint8)


def _stretched(images: list[np.ndarray], toons: list[Toon]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N,96,96,3] and where the renderer has the toon's head [N,4]."""
    heads = []
    for image, toon in zip(images, toons, strict=True):
        height, width, _ = image.shape
        heads.append(
            np.array(head_box(toon, width, height))
            * SIDE
            / np.array([width, height, width, height])
        )
    return np.stack([observers.stretch(image) for image in images]), np.array(heads)


def train(settings: Settings, minutes: float = 6.0) -> None:
    """Writes out/corruption; half of each batch is whole, half is spoilt in one of the KINDS."""
    sources = [
        _stretched(*drawn.pool_pictures(settings)),
        _stretched(*observers.decoded_pictures(settings, 6000)),
        _stretched(*drawn.redrawn_pictures(settings, 20, 1200)),
        _stretched(*drawn.made_pictures(settings, 22, 300)),
    ]
    log(settings, "corruption", f"{' + '.join(str(len(images)) for images, _ in sources)} pictures")
    kinds = list(KINDS)

    def loss_of(network: nn.Module, rng: np.random.Generator) -> Tensor:
        shown, spoilt = [], []
        for (images, heads), count in zip(sources, (28, 16, 12, 12), strict=True):
            for place, i in enumerate(rng.integers(len(images), size=count)):
                spoilt.append(place % 2 == 0)
                kind = kinds[rng.integers(len(kinds))]
                shown.append(corrupt(images[i], kind, heads[i], rng) if spoilt[-1] else images[i])
        x = observers.augment(observers.to_input(np.stack(shown)), rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x.contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(logits.float(), 1 - torch.tensor(spoilt).long())

    torch.manual_seed(SEED + 15)
    network = observers.fit(
        settings, "corruption", networks.Observer(len(LABELS), WIDTHS), loss_of, minutes, rate=0.02
    )
    networks.save_classifier(network, settings.out / "corruption" / "model.onnx")
    write_json(settings.out / "corruption" / "meta.json", {"labels": list(LABELS)})


class Classifier:
    """The exported classifier: list of uint8 pictures of any size → chance that each is corrupted,
    [N]."""

    def __init__(self, settings: Settings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(settings.out / "corruption" / "model.onnx"), options
        )

    def __call__(self, images: list[np.ndarray] | np.ndarray) -> np.ndarray:
        x = (
            np.stack([observers.stretch(image) for image in images])
            .astype(np.float32)
            .transpose(0, 3, 1, 2)
        )
        x = x / 127.5 - 1
        return np.concatenate(
            [
                self.session.run(["output"], {"input": x[i : i + 64]})[0]
                for i in range(0, len(x), 64)
            ]
        )[:, LABELS.index("corrupted")]


def measure(settings: Settings, made: drawn.Shown) -> dict:
    """AUC of whole against spoilt pictures and shares above one half; the base drew `made`
    unaided."""
    held = [
        pictures.held_out(settings.work / "pool", bucket)
        for bucket in ("square", "portrait", "landscape")
    ]
    renders = (
        [i for chunk in held for i in chunk.images[:100]],
        [t for chunk in held for t in chunk.toons[:100]],
    )
    classifier, rng = Classifier(settings), np.random.default_rng([SEED, 16])
    result: dict = {}
    for source, shown in (("render", renders), ("base", made)):
        images, heads = _stretched(*shown)
        whole = classifier(images)
        spoilt = {
            kind: classifier(
                [corrupt(image, kind, head, rng) for image, head in zip(images, heads, strict=True)]
            )
            for kind in KINDS
        }
        result[source] = {
            "count": len(images),
            "whole_called_corrupted": float((whole > 0.5).mean()),
            "auc": {kind: auc(scores, whole) for kind, scores in spoilt.items()},
            "auc_all": auc(np.concatenate(list(spoilt.values())), whole),
            "found": {kind: float((scores > 0.5).mean()) for kind, scores in spoilt.items()},
        }
        if source == "render":
            styles = np.array([toon.style for toon in shown[1]])
            result["whole_called_corrupted_by_style"] = {
                str(style): float((whole[styles == style] > 0.5).mean())
                for style in np.unique(styles)
            }
    return result


def auc(spoilt: np.ndarray, whole: np.ndarray) -> float:
    """Chance that a spoilt picture scores above a whole one; equal scores count half."""
    return float(((spoilt[:, None] > whole).mean() + (spoilt[:, None] >= whole).mean()) / 2)
