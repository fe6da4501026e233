"""What a run trains, by its `network`: which layers, which tensors of each, and all of it at its
beginning."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from onmodel.errors import InputError
from onmodel.families.protocol import Family, FamilySpec, Linear
from onmodel.lora.tensors import Factors
from onmodel.train.adapters import Adapters, Trained, fresh_factors
from onmodel.train.options import Options
from onmodel.train.peft_layers import DoraAdapters, LokrAdapters, lokr_shapes

RankAlphas = Mapping[str, tuple[int, float]]  # layer → (rank, alpha)


def trained_layers(spec: FamilySpec, options: Options) -> dict[str, tuple[int, float]]:
    """Rank and alpha of every layer that is trained, in the model's order.

    Raises InputError for an unknown preset, or a pattern that matches nothing.
    """
    targets = spec.targets(options.targets)
    for rule in options.ranks:
        if not set(spec.matching("ranks.layers", rule.layers)) & set(targets):
            raise InputError(
                "ranks.layers", rule.layers, f"matches no layer of targets = {options.targets!r}"
            )
    return {linear.name: options.rank_alpha(linear.name) for linear in targets}


def trained_shapes(linear: Linear, options: Options, rank: int) -> dict[str, tuple[int, ...]]:
    """Role → shape of a layer's tensors."""
    if options.network == "lokr":
        return lokr_shapes(linear, rank, options.lokr_factor)
    shapes: dict[str, tuple[int, ...]] = {
        "down": (rank, linear.in_features),
        "up": (linear.out_features, rank),
    }
    return shapes | ({"magnitude": (linear.out_features,)} if options.network == "dora" else {})


def make_network(
    family: Family,
    options: Options,
    rank_alphas: RankAlphas,
    seed: int,
    device: torch.device,
    start: Mapping[str, Factors[torch.Tensor]] = MappingProxyType({}),
) -> Trained:
    """What is trained: no change yet, or that of `start`, whose layers are trained too where they
    are not in `rank_alphas`.

    `start` is of the run's own ranks and alphas (`rescale`); a LoKr takes none.
    """
    linears = [linear for linear in family.spec.linears if linear.name in rank_alphas]
    if options.network == "lokr":
        assert not start
        return LokrAdapters(linears, rank_alphas, options.lokr_factor, seed, device)
    both = {**fresh_factors(linears, rank_alphas, seed), **start}
    factors = {
        linear.name: both[linear.name] for linear in family.spec.linears if linear.name in both
    }
    return (
        DoraAdapters(family, factors, device)
        if options.network == "dora"
        else Adapters(factors, device)
    )
