"""Trains the tagger (WD v3 format) on the picture pool, with what makes the base's pictures differ
from renders.

Inside it reads attributes, one softmax each, and multiplies them into tags: 161 separate sigmoids
reached mAP 0.64 in the time in which this learns nearly everything, for most tags ("pink hair
flower") are rare.
"""

from __future__ import annotations

import csv

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from onmodel.toon.attributes import OUTFIT_EXTRAS, VOCABULARY, Toon, visible
from onmodel.toon.captions import ALL_TAGS, COLORED, tags_of

from . import latents as latent_files
from . import networks, pictures, sample
from .common import (
    SEED,
    Average,
    Clock,
    Muon,
    Settings,
    cosine,
    load_checkpoint,
    log,
    save_checkpoint,
)

SIDE = networks.SIDE
RATINGS = ("general", "sensitive", "questionable", "explicit")
OUTPUTS = (*RATINGS, *ALL_TAGS)
HIDDEN = "hidden"


def pad_square(image: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] on a white square, bicubic to 96: what WD taggers are fed."""
    height, width, _ = image.shape
    side = max(height, width)
    if height != width:
        canvas = np.full((side, side, 3), 255, np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        canvas[top : top + height, left : left + width] = image
        image = canvas
    return image if side == SIDE else stretch(image)


def stretch(image: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] → [96,96,3], bicubic: what CCIP is fed."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _groups() -> dict[str, list[str]]:
    """Attribute → the classes of its softmax: its values, and HIDDEN where the drawing does not
    show it."""
    return {name: [*values, HIDDEN] for name, values in VOCABULARY.items()}


GROUPS = _groups()
CLASSES = [(name, value) for name, values in GROUPS.items() for value in values]


def classes_of(toons: list[Toon]) -> np.ndarray:
    """int64 [N,attributes]: the index of every attribute's class."""
    out = []
    for toon in toons:
        seen = visible(toon)
        out.append(
            [
                values.index(getattr(toon, name) if name in seen else HIDDEN)
                for name, values in GROUPS.items()
            ]
        )
    return np.array(out)


def tag_table() -> tuple[np.ndarray, np.ndarray]:
    """A [outputs,classes] and b [outputs]: log P(tag) = A · log P(class) + b; a tag is one class or
    two."""
    place = {pair: i for i, pair in enumerate(CLASSES)}
    table, offset = (
        np.zeros((len(OUTPUTS), len(CLASSES)), np.float32),
        np.zeros(len(OUTPUTS), np.float32),
    )
    offset[1 : len(RATINGS)] = np.log(1e-3)  # every toon is rated general
    row = {name: i for i, name in enumerate(OUTPUTS)}
    for name, values in VOCABULARY.items():
        if name in COLORED.values():
            continue
        for value, tag in values.items():
            if not tag:
                continue
            extras = OUTFIT_EXTRAS.get(value, ()) if name == "outfit" else ()
            for said in (tag, *extras):
                table[row[said], place[name, value]] = 1
            for color, word in VOCABULARY[COLORED[name]].items() if name in COLORED else ():
                table[row[f"{word} {tag}"], [place[name, value], place[COLORED[name], color]]] = 1
    return table, offset


def targets(toons: list[Toon]) -> np.ndarray:
    """uint8 [N,outputs]; every picture is rated general."""
    index = {name: i for i, name in enumerate(OUTPUTS)}
    out = np.zeros((len(toons), len(OUTPUTS)), np.uint8)
    out[:, 0] = 1
    for row, toon in enumerate(toons):
        out[row, [index[tag] for tag in tags_of(toon)]] = 1
    return out


def reading_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy over the attributes; logits [B,classes], truth [B,attributes]."""
    parts = logits.split([len(values) for values in GROUPS.values()], dim=1)
    return torch.stack([F.cross_entropy(part, truth[:, i]) for i, part in enumerate(parts)]).mean()


def _amount(
    rng: np.random.Generator, count: int, low: float, high: float, share: float = 1.0
) -> Tensor:
    """[count,1,1,1]: uniform in low…high for `share` of the pictures, else 0."""
    value = rng.uniform(low, high, count) * (rng.random(count) < share)
    return torch.from_numpy(value.astype(np.float32)).view(-1, 1, 1, 1)


def augment(x_bchw: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror, shift, and what `soil` does."""
    x = torch.where(_amount(rng, len(x_bchw), 0, 1) < 0.5, x_bchw, x_bchw.flip(3))
    dx, dy = (int(v) for v in rng.integers(-5, 6, 2))
    x = F.pad(x, (5, 5, 5, 5), mode="replicate")[
        ..., 5 + dy : 5 + dy + SIDE, 5 + dx : 5 + dx + SIDE
    ]
    return soil(x, rng)


def soil(x_bchw: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, thicker or thinner ink, a little colour and noise, now and then a veil: as a model
    might draw. Nothing moves."""
    x, count = x_bchw, len(x_bchw)
    x = x + _amount(rng, count, 0, 0.8, 0.4) * (
        F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) - x
    )
    ink = _amount(rng, count, -0.5, 0.5, 0.3)
    thick, thin = -F.max_pool2d(-x, 3, 1, 1), F.max_pool2d(x, 3, 1, 1)
    x = x + ink.clamp(min=0) * (thick - x) + (-ink).clamp(min=0) * (thin - x)
    tint = torch.from_numpy(rng.normal(0, 0.04, (count, 3, 1, 1)).astype(np.float32))
    x = x * (1 + _amount(rng, count, -0.08, 0.08)) + tint + _amount(rng, count, -0.06, 0.06)
    veil = torch.from_numpy(rng.uniform(-1, 1, (count, 3, 1, 1)).astype(np.float32))
    x = x + _amount(rng, count, 0, 0.4, 0.3) * (veil - x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    return (x + _amount(rng, count, 0, 0.12, 0.5) * noise).clamp(-1, 1)


def decoded_pictures(settings: Settings, count: int) -> tuple[list[np.ndarray], list[Toon]]:
    """Pool pictures as the VAE draws them, from latents with some noise; kept in
    work/decoded.pt."""
    path = settings.work / "decoded.pt"
    saved = load_checkpoint(path)
    if saved:
        return saved["images"], saved["toons"]
    decoder, pool = sample.Decoder(settings), latent_files.LatentPool(latent_files.folder(settings))
    pool.wait()
    rng = np.random.default_rng([SEED, 6])
    images, toons = [], []
    while len(images) < count * min(settings.minutes_scale, 1):
        bucket = ("square", "portrait", "landscape")[rng.choice(3, p=[0.64, 0.2, 0.16])]
        z, shown = pool.batch(rng, bucket, 32)
        level = torch.from_numpy((rng.random((32, 1, 1, 1)) ** 2 * 0.5).astype(np.float32))
        images += list(
            decoder(z + level * torch.from_numpy(rng.standard_normal(z.shape, np.float32)))
        )
        toons += shown
    save_checkpoint(path, {"images": images, "toons": toons})
    return images, toons


def to_input(images: np.ndarray) -> Tensor:
    """uint8 [N,96,96,3] → −1…1 [N,3,96,96], channels last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def fit(
    settings: Settings, name: str, network: nn.Module, loss_of, minutes: float, rate: float
) -> nn.Module:
    """The observers' training loop: Muon, cosine by time, averaged weights; `loss_of` draws a batch
    and scores it."""
    path = settings.work / f"{name}.pt"
    saved = load_checkpoint(path)
    network.to(memory_format=torch.channels_last)
    optimizer = Muon(network.named_parameters(), rate, 3e-3, adam_names=("head", "classifiers"))
    average = Average(network, 0.998)
    clock, step = Clock(), 0
    if saved:
        network.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    rng = np.random.default_rng([SEED, 7, step])
    budget, losses = settings.minutes(minutes) * 60, []
    said = clock.wall
    done = bool(saved and saved["done"])
    network.train()
    while not done:
        loss = loss_of(network, rng)
        loss.backward()
        optimizer.step(cosine(clock.wall / budget, warmup=0.03))
        optimizer.zero_grad()
        average.update(network)
        step += 1
        losses.append(loss.item())
        done = clock.wall >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                name,
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s loss"
                f" {np.mean(losses[-100:]):.4f}",
            )
            save_checkpoint(
                path,
                {
                    "model": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "average": average.state_dict(),
                    "clock": clock.state(),
                    "done": done,
                },
            )
    network.load_state_dict(average.values, strict=False)
    return network.eval()


def train_tagger(settings: Settings, minutes: float = 41.0) -> None:
    """Writes out/tagger; two thirds renders, one third pictures that went through the VAE."""
    chunks = [
        pictures.load_chunk(path)
        for path in sorted((settings.work / "pool").glob("*.pkl"))
        if f"{pictures.HELD_OUT_CHUNK:04d}" not in path.stem
    ]
    renders = np.stack([pad_square(image) for chunk in chunks for image in chunk.images])
    shown = [toon for chunk in chunks for toon in chunk.toons]
    truth = classes_of(shown)
    worn, worn_toons = decoded_pictures(settings, 6000)
    worn, worn_truth = np.stack([pad_square(image) for image in worn]), classes_of(worn_toons)
    log(settings, "tagger", f"{len(renders)} renders, {len(worn)} decoded")

    def loss_of(network: nn.Module, rng: np.random.Generator) -> Tensor:
        a, b = rng.integers(len(renders), size=48), rng.integers(len(worn), size=16)
        x = augment(to_input(np.concatenate([renders[a], worn[b]])), rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x.contiguous(memory_format=torch.channels_last))
        return reading_loss(
            logits.float(), torch.from_numpy(np.concatenate([truth[a], worn_truth[b]]))
        )

    torch.manual_seed(SEED + 8)
    network = fit(settings, "tagger", networks.Observer(len(CLASSES)), loss_of, minutes, rate=0.02)
    save_tagger(settings, network, targets(shown).sum(0, dtype=np.int64))
    held = [
        pictures.held_out(settings.work / "pool", bucket)
        for bucket in ("square", "portrait", "landscape")
    ]
    images = [image for chunk in held for image in chunk.images]
    score, _ = mean_average_precision(
        Tagger(settings)(images), [toon for chunk in held for toon in chunk.toons]
    )
    log(settings, "tagger", f"mAP {score:.4f} on {len(images)} unseen renders")


def save_tagger(settings: Settings, network: nn.Module, counts: np.ndarray) -> None:
    """model.onnx and selected_tags.csv; `counts` are the pictures of every output in the training
    pool."""
    networks.save_tagger(
        network,
        [len(values) for values in GROUPS.values()],
        *tag_table(),
        settings.out / "tagger" / "model.onnx",
    )
    with open(settings.out / "tagger" / "selected_tags.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["tag_id", "name", "category", "count"])
        for i, name in enumerate(OUTPUTS):
            rating = i < len(RATINGS)
            table.writerow(
                [
                    9999999 - i if rating else i,
                    name.replace(" ", "_"),
                    9 if rating else 0,
                    counts[i],
                ]
            )


class Tagger:
    """The exported tagger: list of uint8 pictures of any size → probabilities [N,outputs]."""

    def __init__(self, settings: Settings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(settings.out / "tagger" / "model.onnx"), options
        )

    def __call__(self, images: list[np.ndarray] | np.ndarray) -> np.ndarray:
        x = np.stack([pad_square(image)[..., ::-1] for image in images]).astype(np.float32)
        return np.concatenate(
            [
                self.session.run(["output"], {"input": x[i : i + 64]})[0]
                for i in range(0, len(x), 64)
            ]
        )


def mean_average_precision(
    scores: np.ndarray, toons: list[Toon], least: int = 5
) -> tuple[float, dict[str, float]]:
    """Mean over tags with at least `least` positives and negatives, and each tag's average
    precision."""
    truth = targets(toons)
    values = {}
    for i, name in enumerate(OUTPUTS):
        positives = int(truth[:, i].sum())
        if least <= positives <= len(toons) - least:
            hits = truth[np.argsort(-scores[:, i], kind="stable"), i]
            values[name] = float(
                (np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / positives
            )
    return float(np.mean(list(values.values()))), values
