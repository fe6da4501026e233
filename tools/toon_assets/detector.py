"""Trains the detector (YOLO format): where the person and the head are, in renders and in what a
model makes of them.

Most pictures show one person. Some show two side by side or an empty scene, so that it finds what
is there and not what is always there.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onmodel.toon.attributes import Toon
from onmodel.toon.draw import head_box, person_box
from onmodel.toon.pen import INKS, Variation
from onmodel.toon.scenery import background

from . import drawn, networks, observers, pictures, sample
from .common import SEED, Settings, log
from .networks import SIDE, STRIDE

NAMES = ("person", "head")
CONFIDENCE, OVERLAP = 0.25, 0.5  # of a box that counts, and of two boxes of the same thing
REACH = 1.5 * STRIDE  # a cell this near to a box's centre, along both axes, tells of it
SLOTS = 2  # persons in one picture


def truth_of(toons: list[Toon], shapes: list[tuple[int, ...]]) -> np.ndarray:
    """Boxes x0 y0 x1 y1 in pixels of pictures stretched to 96×96, float32 [N,classes,4]."""
    rows = []
    for toon, (height, width, _) in zip(toons, shapes, strict=True):
        found = [person_box(toon, width, height), head_box(toon, width, height)]
        rows.append(np.array(found) * SIDE / np.array([width, height, width, height]))
    return np.array(rows, np.float32)


def empty_scene(toon: Toon) -> np.ndarray:
    """The toon's background alone, uint8 [96,96,3]."""
    ink = INKS[toon.style]
    scene = background(toon, ink, Variation.of(toon.nuisance), (3 * SIDE, 3 * SIDE), 3 * ink.width)
    return np.asarray(scene.reduce(3))


def beside(x_bchw: Tensor, boxes_bkn4: Tensor) -> tuple[Tensor, Tensor]:
    """The middle columns of each two pictures side by side: half as many pictures,
    [B/2,classes,2,4] boxes."""
    quarter = SIDE // 4
    x = torch.cat(
        [x_bchw[::2, :, :, quarter:-quarter], x_bchw[1::2, :, :, quarter:-quarter]], dim=3
    )
    left, right = boxes_bkn4[::2, :, 0].clone(), boxes_bkn4[1::2, :, 0].clone()
    left[..., ::2] = (left[..., ::2] - quarter).clamp(0, SIDE / 2)
    right[..., ::2] = (right[..., ::2] + quarter).clamp(SIDE / 2, SIDE)
    return x, torch.stack([left, right], dim=2)


def move(x_bchw: Tensor, boxes_bkn4: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors, scales and shifts; a box at the picture's edge goes on with the drawing, which is
    continued there."""
    count = len(x_bchw)
    scale = torch.from_numpy(
        np.exp(rng.uniform(-0.2, 0.2, (count, 2)) * [[1, 0.3]]).astype(np.float32)
    )
    scale = torch.stack([scale[:, 0] * scale[:, 1], scale[:, 0] / scale[:, 1]], dim=1)
    mirror = torch.from_numpy(rng.choice([-1.0, 1.0], count).astype(np.float32))
    shift = torch.from_numpy(
        rng.uniform(-0.18, 0.18, (count, 2)).astype(np.float32)
    )  # of half a side
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = mirror / scale[:, 0], 1 / scale[:, 1]
    theta[:, 0, 2], theta[:, 1, 2] = -shift[:, 0] * mirror / scale[:, 0], -shift[:, 1] / scale[:, 1]
    grid = F.affine_grid(theta, [count, 3, SIDE, SIDE], align_corners=False)
    x = F.grid_sample(x_bchw, grid, padding_mode="border", align_corners=False)
    place = boxes_bkn4 / (SIDE / 2) - 1
    place = torch.where(place.abs() > 1 - 1 / SIDE, place.sign() * 9, place)
    place[..., ::2] = (
        place[..., ::2] * (mirror * scale[:, 0]).view(-1, 1, 1, 1) + shift[:, :1, None, None]
    )
    place[..., 1::2] = place[..., 1::2] * scale[:, 1].view(-1, 1, 1, 1) + shift[:, 1:, None, None]
    place = torch.where(mirror.view(-1, 1, 1, 1) < 0, place[..., [2, 1, 0, 3]], place)
    return x, ((place + 1) * (SIDE / 2)).clamp(0, SIDE)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes x0 y0 x1 y1 [...,4] (Rezatofighi et al., 2019)."""
    size = (torch.minimum(a, b)[..., 2:] - torch.maximum(a, b)[..., :2]).clamp(min=0)
    both = size.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    hull = (torch.maximum(a, b)[..., 2:] - torch.minimum(a, b)[..., :2]).prod(-1)
    iou = both / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def detection_loss(said_bk5c: Tensor, boxes_bkn4: Tensor, centres_2c: Tensor) -> Tensor:
    """Scores learn the IoU of their box, 0 where none is (VarifocalNet, Zhang et al., 2021); absent
    boxes are NaN."""
    sides = F.softplus(said_bk5c[:, :, :4]) * STRIDE
    found = torch.cat(
        [centres_2c - sides[:, :, :2], centres_2c + sides[:, :, 2:]], dim=2
    ).transpose(2, 3)
    middle = (boxes_bkn4[..., :2] + boxes_bkn4[..., 2:]) / 2
    off = (centres_2c.T - middle.unsqueeze(3)).abs()  # [B,classes,slots,cells,2]
    inside = off < ((boxes_bkn4[..., 2:] - boxes_bkn4[..., :2]) / 2).clamp(max=REACH).unsqueeze(3)
    distance = off.sum(-1).masked_fill(~inside.all(-1), torch.inf)
    nearest, slot = distance.min(dim=2)
    wanted = boxes_bkn4.nan_to_num().gather(2, slot.unsqueeze(-1).expand(-1, -1, -1, 4))
    told = nearest.isfinite()
    iou, generalised = overlap(found[told], wanted[told])
    target = torch.zeros_like(nearest)
    target[told] = iou.detach()
    score = F.binary_cross_entropy_with_logits(said_bk5c[:, :, 4], target, reduction="sum")
    return (score + 2 * (1 - generalised).sum()) / told.sum()


def train(settings: Settings, minutes: float = 8.0) -> None:
    """Writes out/detector: half renders, a quarter decoded by the VAE, a quarter drawn again by the
    base."""
    sources = []
    for images, toons in (
        drawn.pool_pictures(settings),
        observers.decoded_pictures(settings, 6000),
        drawn.redrawn_pictures(settings, 20, 1200),
    ):
        truth = truth_of(toons, [image.shape for image in images])
        sources.append((np.stack([observers.stretch(image) for image in images]), truth))
    rng = np.random.default_rng([SEED, 13])
    empty = np.stack([empty_scene(toon) for toon in (sample.sample_toon(rng) for _ in range(600))])
    log(settings, "detector", f"{' + '.join(str(len(images)) for images, _ in sources)} pictures")
    centres = torch.from_numpy(networks.cell_centres())

    def loss_of(network: nn.Module, rng: np.random.Generator) -> Tensor:
        shown, truth = [], []
        for (images, where), count in zip(sources, (40, 16, 16), strict=True):
            picked = rng.integers(len(images), size=count)
            shown.append(images[picked])
            truth.append(where[picked])
        x = observers.to_input(np.concatenate(shown))
        place = torch.from_numpy(np.concatenate(truth)).unsqueeze(2)
        order = torch.from_numpy(rng.permutation(len(x)))
        x, place = x[order], place[order]
        pairs, pair_place = beside(x[:16], place[:16])
        nobody = observers.to_input(empty[rng.integers(len(empty), size=4)])
        absent = torch.full((len(x), len(NAMES), 1, 4), torch.nan)
        place = torch.cat(
            [
                pair_place,
                torch.cat([place[16:], absent[16:]], 2),
                absent[:4].expand(-1, -1, SLOTS, -1),
            ]
        )
        x, place = move(torch.cat([pairs, x[16:], nobody]), place, rng)
        x = observers.soil(x, rng)
        with torch.autocast("cpu", torch.bfloat16):
            said = network(x.contiguous(memory_format=torch.channels_last))
        return detection_loss(said, place, centres)

    torch.manual_seed(SEED + 14)
    network = networks.Detector(len(NAMES))
    nn.init.constant_(network.head.bias, 0.0)
    with torch.no_grad():
        network.head.bias[4::5] = -4.0  # few cells tell of anything
    network = observers.fit(settings, "detector", network, loss_of, minutes, rate=0.02)
    networks.save_detector(network, NAMES, settings.out / "detector" / "model.onnx")


class Detector:
    """The exported detector: list of uint8 pictures of any size → for each the boxes of every name.

    Boxes are rows x0 y0 x1 y1 score in pixels of the picture, clipped to it, best first, after
    greedy suppression of what overlaps a better box of the same name by more than OVERLAP.
    """

    def __init__(self, settings: Settings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(settings.out / "detector" / "model.onnx"), options
        )

    def __call__(self, images: list[np.ndarray] | np.ndarray) -> list[dict[str, np.ndarray]]:
        x = (
            np.stack([observers.stretch(image) for image in images])
            .astype(np.float32)
            .transpose(0, 3, 1, 2)
            / 255
        )
        said = np.concatenate(
            [
                self.session.run(["output0"], {"images": x[i : i + 64]})[0]
                for i in range(0, len(x), 64)
            ]
        )
        return [self._boxes(rows.T, image.shape) for rows, image in zip(said, images, strict=True)]

    def _boxes(self, rows: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        middle, half = rows[:, :2], rows[:, 2:4] / 2
        corners = np.concatenate([middle - half, middle + half], axis=1).clip(0, SIDE)
        corners *= np.array([shape[1], shape[0]] * 2) / SIDE
        out = {}
        for i, name in enumerate(NAMES):
            found = np.column_stack([corners, rows[:, 4 + i]])
            found = found[found[:, 4] >= CONFIDENCE]
            kept: list[np.ndarray] = []
            for row in found[np.argsort(-found[:, 4], kind="stable")]:
                if all(_iou(row, other) <= OVERLAP for other in kept):
                    kept.append(row)
            out[name] = np.array(kept).reshape(-1, 5)
        return out


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(overlap(torch.from_numpy(a[:4]), torch.from_numpy(b[:4]))[0])


def _against_truth(found: list[dict[str, np.ndarray]], shown: drawn.Shown) -> dict:
    """Each name's recall at IoU ≥ 0.5, mean IoU of the best box (0 where none is) and false boxes
    per picture."""
    result: dict = {}
    for name, box_of in (("person", person_box), ("head", head_box)):
        ious, false = [], 0
        for boxes, image, toon in zip(found, *shown, strict=True):
            truth = np.array(box_of(toon, image.shape[1], image.shape[0]))
            each = [_iou(row, truth) for row in boxes[name]]
            ious.append(max(each, default=0.0))
            false += len(each) - (ious[-1] >= 0.5)
        result[name] = {
            "recall": float(np.mean(np.array(ious) >= 0.5)),
            "iou": float(np.mean(ious)),
            "false": false / len(found),
        }
    return result


def _ratios(found: list[dict[str, np.ndarray]], shown: drawn.Shown) -> dict:
    """Head height through person height on full figures against the renderer's, by body and over
    all bodies."""
    rows = []
    for boxes, image, toon in zip(found, *shown, strict=True):
        if toon.framing == "full body" and all(len(boxes[name]) for name in NAMES):
            size = image.shape[1::-1]
            truth = [box[3] - box[1] for box in (head_box(toon, *size), person_box(toon, *size))]
            read = [boxes[name][0, 3] - boxes[name][0, 1] for name in ("head", "person")]
            rows.append((toon.body, truth[0] / truth[1], read[0] / read[1]))
    bodies = np.array([body for body, _, _ in rows])
    truth, read = (np.array([row[i] for row in rows]) for i in (1, 2))

    def told(kept: np.ndarray) -> dict:
        return {
            "count": int(kept.sum()),
            "truth": float(truth[kept].mean()),
            "read": float(read[kept].mean()),
            "error": float(np.abs(read - truth)[kept].mean()),
            "correlation": float(np.corrcoef(truth[kept], read[kept])[0, 1]),
        }

    return {body: told(bodies == body) for body in ("chibi", "normal", "tall")} | {
        "all": told(bodies != "")
    }


def _counts(found: list[dict[str, np.ndarray]], wanted: int) -> dict[str, float]:
    """Share of pictures in which each name is found exactly as often as wanted."""
    return {name: float(np.mean([len(boxes[name]) == wanted for boxes in found])) for name in NAMES}


def measure(settings: Settings, made: drawn.Shown) -> dict:
    """Against the renderer's truth on unseen renders and on what the base draws of such from noise
    of t ≤ 0.5.

    In `made`, drawn by the base unaided, nobody knows where things are: only how many it finds and
    their proportion, against the one that the prompt asked for.
    """
    held = [
        pictures.held_out(settings.work / "pool", bucket)
        for bucket in ("square", "portrait", "landscape")
    ]
    renders = (
        [i for chunk in held for i in chunk.images],
        [t for chunk in held for t in chunk.toons],
    )
    redrawn = drawn.redrawn_pictures(settings, 21, 300)
    detector = Detector(settings)
    found = {
        "render": detector(renders[0]),
        "redrawn": detector(redrawn[0]),
        "made": detector(made[0]),
    }
    square = observers.to_input(held[0].images)
    pairs, _ = beside(square, torch.zeros(len(square), len(NAMES), 1, 4))
    empty = [empty_scene(toon) for toon in sample.unseen_toons(200, 24)]
    return {
        "render": {"count": len(renders[0]), **_against_truth(found["render"], renders)},
        "redrawn": {"count": len(redrawn[0]), **_against_truth(found["redrawn"], redrawn)},
        "ratio_render": _ratios(found["render"], renders),
        "ratio_redrawn": _ratios(found["redrawn"], redrawn),
        "ratio_made": _ratios(found["made"], made),
        "made": {"count": len(made[0]), "one": _counts(found["made"], 1)},
        "pairs": {"count": len(pairs), "two": _counts(detector(_pictures(pairs)), 2)},
        "empty": {"count": len(empty), "none": _counts(detector(empty), 0)},
    }


def _pictures(x_bchw: Tensor) -> np.ndarray:
    return ((x_bchw + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
