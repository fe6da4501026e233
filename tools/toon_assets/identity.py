"""Trains the identity model (CCIP format): same design near, another design far, also when one trait alone differs.

Families of one character and two siblings that differ in one trait; positives change expression, framing, view, pose,
background, style and body. A pair counts as different only where the difference is visible in both pictures.
The feature is a weighted list of trait readings: a free embedding, trained like this, overlooked colour, since a design
in line art must lie near the same design in colour.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onmodel.toon import attributes
from onmodel.toon.attributes import VOCABULARY, WORLD, Toon, sample_toon
from onmodel.toon.datasets import STANDIN_SETS, deal
from onmodel.toon.draw import draw

from . import networks, sample, vae
from .common import SEED, Settings, load_checkpoint, log, write_json
from .observers import CLASSES, GROUPS, HIDDEN, augment, classes_of, fit, reading_loss, stretch, to_input

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
SIBLING_WEIGHT = 12.0
# Least weights as shares of the largest: contrast alone underrates colours, which two styles of six hide, yet they make
# the character.
LEAST = {"hair_color": 0.9, "accent": 0.9, "eye_color": 0.75, "outfit_color": 0.75}
SIZES = ((96, 96), (96, 96), (80, 112), (112, 80))


@dataclass(frozen=True)
class Family:
    """Pictures uint8 [N,96,96,3] of three characters: `who` 0, 1, 2 and `traits` [N,T], −1 where not visible."""

    images: np.ndarray
    who: np.ndarray
    traits: np.ndarray
    classes: np.ndarray  # int64 [N,attributes] as observers.classes_of


def visible_traits(toon: Toon) -> list[int]:
    """The index of each trait's value, −1 where the drawing does not show it."""
    seen = attributes.visible(toon)
    return [list(VOCABULARY[name]).index(getattr(toon, name)) if name in seen else -1 for name in TRAITS]


def _is_standin(traits: dict[str, str]) -> bool:
    return attributes.is_standin(Toon(**traits))


def random_traits(rng: np.random.Generator) -> dict[str, str]:
    """A design of the world, but with every accent equally often: the base sees few, these have to be told apart."""
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


def families(settings: Settings, count: int = 2600) -> list[Family]:
    """Drawn once into work/families.pkl; one picture in four goes through the VAE with some noise on its latents."""
    path = settings.work / "families.pkl"
    if not path.exists():
        rng = np.random.default_rng([SEED, 9])
        worn = _Worn(settings, rng)
        out = []
        for _ in range(max(int(count * min(settings.minutes_scale, 1)), 40)):
            images, who, toons = make_family(rng)
            images = [stretch(worn(image) if rng.random() < 0.25 else image) for image in images]
            out.append(
                Family(
                    np.stack(images),
                    np.array(who),
                    np.array([visible_traits(toon) for toon in toons]),
                    classes_of(toons),
                )
            )
        path.write_bytes(pickle.dumps(out, protocol=5))
    return pickle.loads(path.read_bytes())


class _Worn:
    """A picture → the same picture encoded, a little disturbed and decoded."""

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        self.decoder, self.rng = sample.Decoder(settings), rng

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            mean, _ = vae.encode(self.decoder.flat, vae.to_tensor(image[None]))
        z = (mean - self.decoder.mean) / self.decoder.std
        level = float(self.rng.random() ** 2 * 0.5)
        return self.decoder(z + level * torch.from_numpy(self.rng.standard_normal(z.shape, np.float32)))[0]


def feature_map() -> np.ndarray:
    """M [features,classes]: every trait's probabilities centred on its mean, unit length for a sure reading.

    A trait that is not visible is read as HIDDEN, which M leaves out, so it adds nothing instead of something wrong.
    """
    rows = []
    for name in TRAITS:
        places = [i for i, (owner, value) in enumerate(CLASSES) if owner == name and value != HIDDEN]
        share = 1 / len(places)
        part = np.zeros((len(places), len(CLASSES)), np.float32)
        part[:, places] = (np.eye(len(places)) - share) / np.sqrt(1 - share)
        rows.append(part)
    return np.concatenate(rows)


class Identity(nn.Module):
    """Reads every attribute and returns (logits, features): the design's traits, each with a learned weight."""

    def __init__(self) -> None:
        super().__init__()
        self.observer = networks.Observer(len(CLASSES))
        self.log_weight = nn.Parameter(torch.zeros(len(TRAITS)))
        self.register_buffer("floor", torch.tensor([LEAST.get(name, 0.0) for name in TRAITS]), persistent=False)
        self.register_buffer("map", torch.from_numpy(feature_map()), persistent=False)

    def weights(self) -> Tensor:
        """One for each trait, [T]."""
        learned = self.log_weight.exp()
        return learned.maximum(self.floor * learned.max())

    def matrix(self) -> Tensor:
        """The weighted feature map [features,classes]."""
        sizes = torch.tensor([len(VOCABULARY[name]) for name in TRAITS])
        return self.map * self.weights().repeat_interleave(sizes).unsqueeze(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.observer(x).float()
        read = torch.cat([part.softmax(1) for part in logits.split(list(GROUP_SIZES), dim=1)], dim=1)
        return logits, read @ self.matrix().T


def contrastive(features: Tensor, names: Tensor, traits: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss over pairs that are the same or visibly different; names are family * 3 + who.

    A sibling counts as SIBLING_WEIGHT strangers: else pulling line art to colour teaches the model to overlook colour.
    """
    unit = F.normalize(features, dim=1)
    family = names // 3
    logits = unit @ unit.T / temperature + math.log(SIBLING_WEIGHT) * (
        (family[:, None] == family[None, :]) & (names[:, None] != names[None, :])
    )
    same = names[:, None] == names[None, :]
    both = (traits[:, None] >= 0) & (traits[None, :] >= 0)
    differ = ((traits[:, None] != traits[None, :]) & both).any(2) & ~same
    own = torch.eye(len(names), dtype=torch.bool)
    logits = logits.masked_fill(~(same | differ) | own, -1e4)
    positive = same & ~own
    log_share = logits - logits.logsumexp(1, keepdim=True)
    return -((log_share * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


def train_identity(settings: Settings, minutes: float = 8.0) -> None:
    """Writes out/identity; starts from the tagger, which already reads every trait of a padded picture."""
    pool = families(settings)

    def loss_of(network: Identity, rng: np.random.Generator) -> Tensor:
        picked = [pool[i] for i in rng.integers(len(pool), size=10)]
        x = augment(to_input(np.concatenate([family.images for family in picked])), rng)
        names = torch.from_numpy(np.concatenate([family.who + 3 * i for i, family in enumerate(picked)]))
        traits = torch.from_numpy(np.concatenate([family.traits for family in picked]))
        truth = torch.from_numpy(np.concatenate([family.classes for family in picked]))
        with torch.autocast("cpu", torch.bfloat16):
            logits, features = network(x.contiguous(memory_format=torch.channels_last))
        return reading_loss(logits, truth) + 0.05 * contrastive(features, names, traits)

    torch.manual_seed(SEED + 10)
    network = Identity()
    tagger = load_checkpoint(settings.work / "tagger.pt")
    network.observer.load_state_dict({**tagger["model"], **tagger["average"]["values"]})
    network = fit(settings, "identity", network, loss_of, minutes, rate=0.006)
    networks.save_identity(network.observer, GROUP_SIZES, network.matrix().detach().numpy(), settings.out / "identity")
    measured = measure(settings)
    write_json(settings.out / "identity" / "metrics.json", measured)
    weights = {name: round(w, 2) for name, w in zip(TRAITS, network.weights().tolist(), strict=True)}
    log(settings, "identity", f"{measured} weights {weights}")


class IdentityModel:
    """The exported model: list of uint8 pictures of any size → features [N,D], and differences [N,N]."""

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
            [self.features.run(["output"], {"input": x[i : i + 64]})[0] for i in range(0, len(x), 64)]
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
    """AUC of same against visibly different pairs: unrelated characters, and siblings with one trait changed."""
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
    pairs = {"same": values[same], "hard": values[differ & family & ~same], "random": values[differ & ~family]}
    cuts = np.linspace(0, 0.6, 241)
    rate = [
        np.mean(pairs["same"] <= c) + 0.5 * np.mean(pairs["hard"] > c) + 0.5 * np.mean(pairs["random"] > c)
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
    """Mean agreement (1 − difference) with the stand-in's references: leave-one-out, and one-trait-off redrawings.

    A near miss is the same picture redrawn with one trait changed, compared with the other references, where visible.
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
