"""Trains the identity model (CCIP format): the share of a design's traits that two pictures agree
in.

It reads every trait or that the picture hides it; `model_metrics.onnx` compares what both pictures
show. A plain cosine let a trait weigh less than what the framing hides (AUC against siblings 0.75),
and a free embedding overlooked colour. It must read a base model's pictures too, so a third of
those it learns from were drawn again by the toon base.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from onmodel.toon import attributes
from onmodel.toon.attributes import VOCABULARY, WORLD, Toon, sample_toon
from onmodel.toon.captions import tags
from onmodel.toon.datasets import STANDIN_SETS, deal
from onmodel.toon.draw import draw

from . import base, networks, sample, text, vae
from .common import SEED, Settings, load_checkpoint, log, write_json
from .observers import (
    CLASSES,
    GROUPS,
    HIDDEN,
    augment,
    classes_of,
    fit,
    reading_loss,
    stretch,
    to_input,
)

TRAITS = (
    "hair_style",
    "hair_color",
    "eye_color",
    "ears",
    "headwear",
    "headwear_color",
    "glasses",
    "neck",
    "neck_color",
    "outfit",
    "outfit_color",
    "accent",
)
OWNER = {"headwear_color": "headwear", "neck_color": "neck"}  # a colour exists only with its thing
GROUP_SIZES = tuple(len(values) for values in GROUPS.values())
COLUMNS = [i for i, (owner, value) in enumerate(CLASSES) if owner in TRAITS and value != HIDDEN]
# what is read as likelier than not counts as seen: a soft picture of her is still a picture of her
SHARPNESS = 4.0
SIZES = tuple(len(values) for values in GROUPS.values())
SIBLING_WEIGHT = 12.0
# Least weights as shares of the largest: contrast alone underrates colours, which two styles of six
# hide, yet they make the character.
LEAST = {"hair_color": 0.9, "accent": 0.9, "eye_color": 0.75, "outfit_color": 0.75}
SIZES = ((96, 96), (96, 96), (80, 112), (112, 80))


def visible_traits(toon: Toon) -> list[int]:
    """The index of each trait's value, −1 where the drawing does not show it."""
    seen = attributes.visible(toon)
    return [
        list(VOCABULARY[name]).index(getattr(toon, name)) if name in seen else -1 for name in TRAITS
    ]


def _is_standin(traits: dict[str, str]) -> bool:
    return attributes.is_standin(Toon(**traits))


def random_traits(rng: np.random.Generator) -> dict[str, str]:
    """A design of the world, but with every accent equally often: the base sees few, these have to
    be told apart."""
    toon = sample_toon(rng, accent=str(rng.choice(list(VOCABULARY["accent"]))))
    return {name: getattr(toon, name) for name in TRAITS}


def sibling(traits: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """The same design with one visible trait changed; never the stand-in."""
    while True:
        name = str(rng.choice([n for n in TRAITS if n not in OWNER or traits[OWNER[n]] != "none"]))
        values = [value for value in VOCABULARY[name] if value != traits[name]]
        changed = traits | {name: str(rng.choice(values))}
        if not _is_standin(changed):
            return changed


def situation(traits: dict[str, str], rng: np.random.Generator) -> Toon:
    """The character somewhere, somehow; the body stays normal in two pictures of three."""
    free = sample_toon(rng, WORLD | {"body": {"normal": 0.66, "chibi": 0.17, "tall": 0.17}})
    return free.replace(**traits)


def _picture(toon: Toon, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(draw(toon, *SIZES[rng.integers(len(SIZES))]))


def make_family(rng: np.random.Generator) -> tuple[list[np.ndarray], list[int], list[Toon]]:
    first = random_traits(rng)
    cast = [first, sibling(first, rng), sibling(first, rng)]
    who = [0, 0, 0, 1, 1, 2, 2]
    toons = [situation(cast[i], rng) for i in who]
    return [_picture(toon, rng) for toon in toons], who, toons


def seen_pictures(settings: Settings, count: int = 2600) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of `count` families, uint8 [N,96,96,3], and their classes [N,attributes]; kept in
    work/families.npz.

    One picture in three is drawn again, see `Redrawn`.
    """
    path = settings.work / "families.npz"
    if not path.exists():
        rng = np.random.default_rng([SEED, 9])
        made = [
            make_family(rng) for _ in range(max(int(count * min(settings.minutes_scale, 1)), 40))
        ]
        images = [image for drawn, _, _ in made for image in drawn]
        toons = [toon for _, _, shown in made for toon in shown]
        redrawn = Redrawn(settings, rng)
        for places in redrawn.batches(images):
            again = redrawn([images[i] for i in places], [toons[i] for i in places])
            for i, image in zip(places, again, strict=True):
                images[i] = image
        np.savez(
            path, images=np.stack([stretch(image) for image in images]), classes=classes_of(toons)
        )
    saved = np.load(path)
    return saved["images"], saved["classes"]


class Redrawn:
    """Pictures as a model might give them: through the VAE, then noised to t ≤ 0.5 and denoised by
    the toon base.

    So little noise leaves a picture's traits as they are, and what is lost is what a reader must do
    without.
    """

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        self.decoder, self.rng = sample.Decoder(settings), rng
        self.side = text.TextSide(settings.work / "tokenizers")
        self.model = base.averaged(settings, self.side)

    def batches(
        self, images: list[np.ndarray], share: float = 1 / 3, size: int = 32
    ) -> list[list[int]]:
        """Places of the pictures to be drawn again, of one size each."""
        places = defaultdict(list)
        for i, image in enumerate(images):
            if self.rng.random() < share:
                places[image.shape].append(i)
        return [
            row[start : start + size]
            for row in places.values()
            for start in range(0, len(row), size)
        ]

    @torch.no_grad()
    def __call__(self, images: list[np.ndarray], toons: list[Toon]) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            mean, _ = vae.encode(self.decoder.flat, vae.to_tensor(np.stack(images)))
        z = (mean.float() - self.decoder.mean) / self.decoder.std
        level = float(self.rng.random() * 0.5)
        noise = torch.from_numpy(self.rng.standard_normal(z.shape, np.float32))
        x = (1 - level) * z + level * noise
        captions = [", ".join(tags(toon)) for toon in toons]
        return self.decoder(
            sample.denoise(self.model, self.side, captions, x, np.linspace(level, 0, 6))
        )


def train_identity(settings: Settings, minutes: float = 8.0) -> None:
    """Writes out/identity; starts from the tagger, which already reads every trait of a padded
    picture."""
    images, classes = seen_pictures(settings)

    def loss_of(network: nn.Module, rng: np.random.Generator) -> Tensor:
        picked = rng.integers(len(images), size=64)
        x = augment(to_input(images[picked]), rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x.contiguous(memory_format=torch.channels_last))
        return reading_loss(logits.float(), torch.from_numpy(classes[picked]))

    torch.manual_seed(SEED + 10)
    network = networks.Observer(len(CLASSES))
    tagger = load_checkpoint(settings.work / "tagger.pt")
    network.load_state_dict({**tagger["model"], **tagger["average"]["values"]})
    network = fit(settings, "identity", network, loss_of, minutes, rate=0.006)
    save(settings, network)
    measured = measure(settings)
    write_json(settings.out / "identity" / "metrics.json", measured)
    log(settings, "identity", str(measured))


def save(settings: Settings, network: networks.Observer) -> None:
    """out/identity; the feature holds the traits' values, without HIDDEN."""
    owners = np.array([[CLASSES[i][0] == name for name in TRAITS] for i in COLUMNS], np.float32)
    networks.save_identity(
        network, GROUP_SIZES, SHARPNESS, COLUMNS, owners, settings.out / "identity"
    )


class IdentityModel:
    """The exported model: list of uint8 pictures of any size → features [N,D], and differences
    [N,N]."""

    def __init__(self, settings: Settings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        folder = settings.out / "identity"
        self.features, self.metrics = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
            for name in ("model_feat", "model_metrics")
        )

    def __call__(self, images: list[np.ndarray] | np.ndarray) -> np.ndarray:
        x = np.stack([stretch(image) for image in images]).astype(np.float32) / 255
        x = (x - np.array(networks.CLIP_MEAN)) / np.array(networks.CLIP_STD)
        x = x.transpose(0, 3, 1, 2).astype(np.float32)
        return np.concatenate(
            [
                self.features.run(["output"], {"input": x[i : i + 64]})[0]
                for i in range(0, len(x), 64)
            ]
        )

    def differences(self, features: np.ndarray) -> np.ndarray:
        return self.metrics.run(["output"], {"input": features.astype(np.float32)})[0]


def auc(same: np.ndarray, different: np.ndarray) -> float:
    """Chance that a same pair has the smaller difference."""
    values = np.concatenate([same, different])
    order = np.empty(len(values))
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    rank = order[len(same) :].mean() - (len(different) - 1) / 2
    return float(rank / len(same))


def measure(settings: Settings, count: int = 250) -> dict:
    """AUC of same against visibly different pairs: unrelated characters, and siblings with one
    trait changed."""
    model = IdentityModel(settings)
    rng = np.random.default_rng([SEED, 11])
    made = [make_family(rng) for _ in range(count)]
    features = model([image for images, _, _ in made for image in images])
    differences = model.differences(features)
    who = np.concatenate([np.array(w) + 3 * i for i, (_, w, _) in enumerate(made)])
    traits = np.array([visible_traits(toon) for _, _, toons in made for toon in toons])
    a, b = np.triu_indices(len(who), 1)
    seen = (traits[a] >= 0) & (traits[b] >= 0)
    differ = ((traits[a] != traits[b]) & seen).any(1)
    same, family = who[a] == who[b], who[a] // 3 == who[b] // 3
    values = differences[a, b]
    pairs = {
        "same": values[same],
        "hard": values[differ & family & ~same],
        "random": values[differ & ~family],
    }
    cuts = np.linspace(0, 0.6, 241)
    rate = [
        np.mean(pairs["same"] <= c)
        + 0.5 * np.mean(pairs["hard"] > c)
        + 0.5 * np.mean(pairs["random"] > c)
        for c in cuts
    ]
    return {
        "threshold": float(cuts[int(np.argmax(rate))]),
        "auc_random": auc(pairs["same"], pairs["random"]),
        "auc_hard": auc(pairs["same"], pairs["hard"]),
        "pairs": {k: len(v) for k, v in pairs.items()},
        "mean_difference": {k: float(v.mean()) for k, v in pairs.items()},
    }


NEAR_MISSES = {
    "ears": "none",
    "hair_color": "pink",
    "headwear": "none",
    "hair_style": "long hair",
    "outfit_color": "red",
    "eye_color": "red",
    "neck": "none",
    "accent": "none",
}


def standin_check(settings: Settings) -> dict[str, float]:
    """Mean agreement (1 − difference) with the stand-in's references: leave-one-out, and
    one-trait-off redrawings.

    A near miss is the same picture redrawn with one trait changed, compared with the other
    references, where visible.
    """
    model = IdentityModel(settings)
    toons = deal(STANDIN_SETS["reference"])
    size = len(toons)

    def features_of(shown: list[Toon]) -> np.ndarray:
        return model([np.asarray(draw(toon, *SIZES[1 + i % 3])) for i, toon in enumerate(shown)])

    references = features_of(list(toons))
    others = ~np.eye(size, dtype=bool)
    agreement = 1 - model.differences(references)
    out = {"own": float(agreement[others].mean())}
    for name, value in NEAR_MISSES.items():
        missed = features_of([toon.replace(**{name: value}) for toon in toons])
        mixed = 1 - model.differences(np.concatenate([missed, references]))[:size, size:]
        seen = np.array([name in attributes.visible(toon) for toon in toons])
        pairs = others & seen[:, None] & seen[None, :]
        out[f"{name}={value}"] = float(mixed[pairs].mean())
        out[f"own where {name} is visible"] = float(agreement[pairs].mean())
    return out
