"""The merge methods: one table; a new method is a new row.

A row says how the settings become one weight per model, and what is done with them in each layer: a
sum of ΔW, a sum whose weights depend on the angles between the inputs (`mix`), or a rule for single
entries of ΔW (`elements`), which leaves no low-rank sum and is factored anew.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onmodel.errors import InputError
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.lora.factors import Factors
from onmodel.randomness import generator

Given = str | Sequence[float] | Mapping[str, float]
Parts = Sequence[Factors[np.ndarray]]
MOST_WEIGHT = 1e6  # far above any strength; sums of what is larger overflow
DECAY, DENSITY = 0.8, 0.5  # what `ema`, and `ties` and `dare`, take when nothing is said


@dataclass(frozen=True)
class Method:
    """`weights(names, given, decay)` gives one weight per name; `takes` are the settings that the
    method reads.

    `says` is what the result is, in words; `paper` where the method comes from.
    """

    weights: Callable[[Sequence[str], Given, float], list[float]]
    says: str
    paper: str
    takes: tuple[str, ...] = ()
    mix: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    elements: Callable[[Parts, np.ndarray, float, str], np.ndarray] | None = None


def weighted(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """The user's own weights, by place or by model name. Their sum, the strength of the result,
    need not be 1, and a negative one takes a model's change away (task arithmetic)."""
    if isinstance(given, str):
        return uniform(names, given, decay)
    if isinstance(given, Mapping):
        if set(given) != set(names):
            wrong = sorted(set(given) ^ set(names))
            raise InputError(
                "weights", ", ".join(wrong), f"give one weight to each of {', '.join(names)}"
            )
        weights = [float(given[name]) for name in names]
    else:
        weights = [float(weight) for weight in given]
    if len(weights) != len(names):
        raise InputError(
            "weights",
            f"{len(weights)} weights",
            f"there are {len(names)} models: {', '.join(names)}",
        )
    if not (np.abs(weights) <= MOST_WEIGHT).all():  # nan is not either
        raise InputError("weights", weights, f"are finite numbers, at most {MOST_WEIGHT:g}")
    return weights


def uniform(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """The plain mean: 1/K each. Over the checkpoints of one run it is stochastic weight
    averaging."""
    return [1 / len(names)] * len(names)


def ema(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """An exponential moving average over checkpoints in the order given: decay^(K−1−i), summing to
    1."""
    shares = np.array([decay ** (len(names) - 1 - i) for i in range(len(names))])
    return [float(share) for share in shares / shares.sum()]


def affine(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """Found weights of saved checkpoints, negative ones too, scaled to sum to 1 so that the
    strength stays."""
    weights = weighted(names, given, decay)
    if sum(weights) <= 0:
        raise InputError("weights", weights, "must have a sum above 0")
    return [weight / sum(weights) for weight in weights]


def pair(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """Two weights that sum to 1: the second is how far to go from the first model to the second."""
    if len(names) != 2:
        raise InputError(
            "models", f"{len(names)} models", "slerp takes two; merge pairs one after the other"
        )
    weights = affine(names, given, decay)
    if min(weights) < 0:
        raise InputError("weights", weights, "slerp needs weights of 0 or more")
    return weights


def positive(names: Sequence[str], given: Given, decay: float) -> list[float]:
    """Weights of 0 or more, not all 0."""
    weights = weighted(names, given, decay)
    if min(weights) < 0 or max(weights) == 0:
        raise InputError("weights", weights, "must be 0 or more, and not all 0, for this method")
    return weights


def slerp(inner: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights that go along the great circle between two ΔW of one layer, by the angle between
    them."""
    if len(weights) < 2:  # a layer that only one input has
        return weights
    lengths = np.sqrt(np.clip(np.diag(inner), 0, None))
    if min(lengths) == 0:
        return weights
    angle = np.arccos(np.clip(inner[0, 1] / lengths.prod(), -1, 1))
    if (
        np.sin(angle) < 1e-4
    ):  # the same direction, or the opposite one, where no great circle is the shortest
        return weights
    return np.sin(weights * angle) / np.sin(angle)


def ties(parts: Parts, weights: np.ndarray, density: float, layer: str) -> np.ndarray:
    """Trim, elect sign, disjoint mean, entry by entry: of each ΔW the largest `density` of entries
    stay, the sign with the greater weighted mass wins, and its entries are averaged. Times the sum
    of weights. Returns ΔW [out, in]."""
    floors = []
    for part in parts:
        sizes = np.abs(part.delta()).ravel()
        place = min(int((1 - density) * len(sizes)), len(sizes) - 1)
        floors.append(np.partition(sizes, place)[place])
    shape = (parts[0].up.shape[0], parts[0].down.shape[1])
    positive, negative = np.zeros((2, *shape), np.float32), np.zeros((2, *shape), np.float32)
    for part, weight, floor in zip(parts, weights, floors, strict=True):
        delta = part.delta()
        delta[np.abs(delta) < floor] = 0
        for (mass, share), mine in ((positive, delta > 0), (negative, delta < 0)):
            mass += np.float32(weight) * np.where(mine, delta, 0)
            share += np.float32(weight) * mine
    mass, share = np.where(positive[0] >= -negative[0], positive, negative)
    return np.float32(weights.sum()) * np.divide(
        mass, share, out=np.zeros_like(mass), where=share > 0
    )


def dare(parts: Parts, weights: np.ndarray, density: float, layer: str) -> np.ndarray:
    """Drop and rescale: each entry of each ΔW stays with probability `density` and is divided by
    it; then the sum."""
    total = np.zeros((parts[0].up.shape[0], parts[0].down.shape[1]), np.float32)
    for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        stays = generator(0, "dare", layer, i).random(total.shape, dtype=np.float32) < density
        total += np.float32(weight / density) * np.where(stays, part.delta(), 0)
    return total


METHODS: dict[str, Method] = {
    "weighted": Method(
        weighted, "a weighted sum of ΔW", "https://arxiv.org/abs/2212.04089", ("weights",)
    ),
    "uniform": Method(uniform, "the plain mean of ΔW", "https://arxiv.org/abs/2203.05482"),
    "ema": Method(
        ema,
        "an exponential moving average of ΔW over checkpoints",
        "https://arxiv.org/abs/2312.02696",
        ("decay",),
    ),
    "lcsc": Method(
        affine,
        "a linear combination of saved checkpoints' ΔW",
        "https://arxiv.org/abs/2404.02241",
        ("weights",),
    ),
    "block_weighted": Method(
        weighted,
        "a sum of ΔW weighted by block and type of layer",
        "https://arxiv.org/abs/2310.02575",
        ("weights", "blocks"),
    ),
    "slerp": Method(
        pair,
        "a spherical interpolation of two ΔW, layer by layer",
        "https://doi.org/10.1145/325165.325242",
        ("weights",),
        mix=slerp,
    ),
    "ties": Method(
        positive,
        "ΔW trimmed, their signs elected and the rest averaged",
        "https://arxiv.org/abs/2306.01708",
        ("weights", "density"),
        elements=ties,
    ),
    "dare": Method(
        weighted,
        "a weighted sum of ΔW with entries dropped and the rest rescaled",
        "https://arxiv.org/abs/2311.03099",
        ("weights", "density"),
        elements=dare,
    ),
}


@dataclass(frozen=True)
class Blend:
    """A method with its settings, checked. `weights` has one number per model, in their order."""

    name: str
    names: tuple[str, ...]
    weights: tuple[float, ...]
    density: float = DENSITY
    decay: float = DECAY
    blocks: Mapping[str, float] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        return METHODS[self.name]

    def in_layer(self, linear: Linear) -> np.ndarray:
        """The models' weights [K] in one layer."""
        weights = np.array(self.weights)
        for pattern, factor in self.blocks.items():
            model, place = _split(pattern, self.names)
            if _matches(place, linear):
                weights[slice(None) if model is None else self.names.index(model)] *= factor
        return weights

    def facts(self) -> dict[str, object]:
        """Method and settings as the lineage records them. Weights are recorded with the models."""
        settings = {"decay": self.decay, "density": self.density, "blocks": dict(self.blocks)}
        return {"method": self.name} | {
            key: settings[key] for key in self.method.takes if key in settings
        }


def choose(
    names: Sequence[str],
    spec: FamilySpec,
    method: str | None = None,
    weights: Given | None = None,
    decay: float | None = None,
    density: float | None = None,
    blocks: Mapping[str, float] | None = None,
) -> Blend:
    """The method that the settings ask for; without a name the plain mean, or the weighted sum
    where weights are given.

    `blocks` maps `0-9`, `12` (block numbers) or a part of a layer's name (`mlp`,
    `cross_attn.q_proj`), with `model:` before it for one model only, to a factor on the weights
    there; several that match are multiplied. Raises InputError for a setting that is wrong or that
    the method does not read.
    """
    if method is None:
        method = "block_weighted" if blocks else "uniform" if weights is None else "weighted"
    if method not in METHODS:
        raise InputError("method", method, f"known: {', '.join(METHODS)}")
    row = METHODS[method]
    for key, value in {
        "weights": weights,
        "decay": decay,
        "density": density,
        "blocks": blocks,
    }.items():
        if value and key not in row.takes:
            able = ", ".join(name for name, other in METHODS.items() if key in other.takes)
            raise InputError(key, value, f"{method} does not read it; {able} would")
    if method == "block_weighted" and not blocks:
        raise InputError("blocks", "none given", "say where, e.g. 0-9=0.5 or mlp=0")
    decay, density = DECAY if decay is None else decay, DENSITY if density is None else density
    for key, value in (("decay", decay), ("density", density)):
        if not 0 < value <= 1:
            raise InputError(key, value, "must be above 0 and at most 1")
    for pattern in blocks or {}:
        place = _split(pattern, names)[1]
        if not any(_matches(place, linear) for linear in spec.lora_linears):
            raise InputError(
                "blocks",
                pattern,
                f"matches no layer; use block numbers (0-{spec.blocks - 1}) or e.g. mlp",
            )
    chosen = row.weights(names, "uniform" if weights is None else weights, decay)
    return Blend(method, tuple(names), tuple(chosen), density, decay, dict(blocks or {}))


def _split(pattern: str, names: Sequence[str]) -> tuple[str | None, str]:
    """`model:place` → (model, place); (None, place) for all models."""
    model, colon, place = pattern.rpartition(":")
    if colon and model not in names:
        raise InputError("blocks", pattern, f"{model} is none of {', '.join(names)}")
    return (model, place) if colon else (None, place)


def _matches(place: str, linear: Linear) -> bool:
    if match := re.fullmatch(r"(\d+)(?:-(\d+))?", place):
        first, last = int(match[1]), int(match[2] or match[1])
        return linear.block is not None and first <= linear.block <= last
    return bool(place) and place in linear.name
