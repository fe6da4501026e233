"""The merge methods: how a recipe's `weights` become one weight per model. One table; a new method is a new row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onmodel.errors import InputError

Given = str | Sequence[float] | Mapping[str, float]


@dataclass(frozen=True)
class Method:
    """`weights(names, given)` gives one weight per name; `paper` is where the method comes from."""

    weights: Callable[[Sequence[str], Given], list[float]]
    paper: str


def weighted(names: Sequence[str], given: Given) -> list[float]:
    """The recipe's own weights, by place or by model name. Their sum, the strength of the result, need not be 1."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            wrong = sorted(set(given) ^ set(names))
            raise InputError("weights", ", ".join(wrong), f"give one weight to each of {', '.join(names)}")
        return [float(given[name]) for name in names]
    if len(given) != len(names):
        raise InputError("weights", f"{len(given)} weights", f"there are {len(names)} models: {', '.join(names)}")
    return [float(weight) for weight in given]


def uniform(names: Sequence[str], given: Given) -> list[float]:
    """The plain mean: 1/K each."""
    return [1 / len(names)] * len(names)


METHODS: dict[str, Method] = {
    "weighted": Method(weighted, "https://arxiv.org/abs/2212.04089"),
    "uniform": Method(uniform, "https://arxiv.org/abs/2203.05482"),
}
