"""What a run trains, by its `network`: which layers, which tensors of each, and all of it at its
beginning. Names and shapes are found without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from onmodel.errors import InputError
from onmodel.families.protocol import Family, FamilySpec, Linear
from onmodel.train.options import Options

if TYPE_CHECKING:
    import torch

    from onmodel.lora.factors import Factors
    from onmodel.train.adapters import Trained

RankAlphas = Mapping[str, tuple[int, float]]  # layer → (rank, alpha)


def text_rates(spec: FamilySpec, options: Options) -> dict[str, float]:
    """Component that encodes text → its learning rate, of those that are trained. Raises InputError
    where the base has none."""
    found: dict[str, float] = {}
    for kind, rate in options.text_rates.items():
        own = [part.name for part in spec.components if part.kind == kind]
        if not any(row.component in own for row in spec.text_linears):
            setting = f"train_{kind.replace(' ', '_')}"
            raise InputError(setting, True, f"{spec.title} has no {kind}; leave it out")
        found |= dict.fromkeys(own, rate)
    return found


def step_components(spec: FamilySpec, options: Options) -> list[str]:
    """The components beside the backbone that a training step computes: those that are trained, and
    the text conditioner, which reads what the text encoder gives."""
    trained = text_rates(spec, options)
    return [
        part.name
        for part in spec.components
        if part.name in trained or (trained and part.kind == "text conditioner")
    ]


def layer_rates(spec: FamilySpec, options: Options) -> dict[str, float]:
    """Layer → its learning rate, of the layers that encode text and are trained."""
    rates = text_rates(spec, options)
    rows = [row for row in spec.text_linears if row.component in rates]
    return {row.name: rates[str(row.component)] for row in rows}


def trained_layers(spec: FamilySpec, options: Options) -> dict[str, tuple[int, float]]:
    """Rank and alpha of every layer that is trained, in the model's order. Of what encodes text
    these are the layers in its blocks, as sd-scripts and diffusion-pipe train them.

    Raises InputError for an unknown preset, or a pattern that matches nothing.
    """
    rates = text_rates(spec, options)
    targets = spec.targets(options.targets)
    if options.network != "lora" and (found := set(targets) & set(spec.convolutions)):
        said = f"adapts {len(found)} convolutions, which network = {options.network!r} cannot"
        raise InputError("targets", options.targets, f'{said}; use "attention_mlp"')
    for row in spec.text_linears:
        if row.component in rates and any(map(str.isdigit, row.diffusers.split("."))):
            targets.append(row)
    for rule in options.ranks:
        if not any(fnmatchcase(row.name, rule.layers) for row in targets):
            spec.matching("ranks.layers", rule.layers)
            raise InputError(
                "ranks.layers", rule.layers, f"matches no layer of targets = {options.targets!r}"
            )
    return {linear.name: options.rank_alpha(linear.name) for linear in targets}


def trained_shapes(linear: Linear, options: Options, rank: int) -> dict[str, tuple[int, ...]]:
    """Role → shape of a layer's tensors."""
    if options.network == "lokr":
        from onmodel.train.peft_layers import lokr_shapes

        return lokr_shapes(linear, rank, options.lokr_factor)
    shapes: dict[str, tuple[int, ...]] = {
        "down": (rank, linear.in_features),
        "up": (linear.out_features, rank),
    }
    return shapes | ({"magnitude": (linear.out_features,)} if options.network == "dora" else {})


def all_shapes(spec: FamilySpec, options: Options) -> dict[str, dict[str, tuple[int, ...]]]:
    """Layer → role → shape of what is trained. Raises InputError for targets that are not there."""
    rank_alphas = trained_layers(spec, options)
    return {
        row.name: trained_shapes(row, options, rank_alphas[row.name][0])
        for row in spec.lora_linears
        if row.name in rank_alphas
    }


@dataclass(frozen=True)
class TrainingSize:
    """What a training trains: `layers` of `all_layers` that the trained components have, numbers,
    and bytes of a checkpoint's tensors."""

    layers: int
    all_layers: int
    parameters: int
    file_bytes: int


def training_size(spec: FamilySpec, options: Options) -> TrainingSize:
    """Raises InputError for targets that are not there."""
    layers = all_shapes(spec, options).values()
    parameters = sum(prod(shape) for roles in layers for shape in roles.values())
    twice = sum(prod(roles.get("magnitude", (0,))) for roles in layers)  # under two names
    width = 2 if options.save_precision == "bf16" else 4
    all_layers = len(spec.backbone_layers) + len(layer_rates(spec, options))
    return TrainingSize(len(layers), all_layers, parameters, (parameters + twice) * width)


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
    from onmodel.train.adapters import Adapters, fresh_factors

    linears = [linear for linear in family.spec.lora_linears if linear.name in rank_alphas]
    if options.network == "lokr":
        from onmodel.train.peft_layers import LokrAdapters

        assert not start
        return LokrAdapters(linears, rank_alphas, options.lokr_factor, seed, device)
    both = {**fresh_factors(linears, rank_alphas, seed), **start}
    factors = {
        linear.name: both[linear.name] for linear in family.spec.lora_linears if linear.name in both
    }
    if options.network == "dora":
        from onmodel.train.peft_layers import DoraAdapters

        return DoraAdapters(family, factors, device)
    return Adapters(factors, device)
