"""The optimizers, each from a library that is looked after, in one table.

Those that work on single numbers get the run's one flat tensor; those that factor a matrix need the
matrices. Only what makes an optimizer needs torch.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite, prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from onmodel.devices import find_device
from onmodel.errors import InputError
from onmodel.train.options import Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from onmodel.train.adapters import Trained

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer: class `name` of `module`, which the extra `extra` of onmodel installs. `flat`:
    it works on one flat tensor. `state(shape)` is the size of its state for a tensor, in bytes."""

    module: str
    name: str
    paper: str
    flat: bool
    state: Callable[[Shape], float]
    extra: str | None = None
    cuda: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _numbers(shape: Shape) -> int:
    return 4 * prod(shape)  # float32


def _factored(shape: Shape) -> int:
    """A mean of each row and each column of a matrix."""
    return 4 * sum(shape)


OPTIMIZERS = {
    "adamw": OptimizerSpec(
        "torch.optim",
        "AdamW",
        "https://arxiv.org/abs/1711.05101",
        flat=True,
        state=lambda shape: 2 * _numbers(shape),
        defaults={"fused": True},
    ),
    "adamw_8bit": OptimizerSpec(
        "bitsandbytes.optim",
        "AdamW8bit",
        "https://arxiv.org/abs/2110.02861",
        flat=True,
        extra="8bit",
        cuda=True,
        state=lambda shape: (
            (2 + 2 * 4 / 256) * prod(shape)
        ),  # a byte for each moment, a float32 for each 256 of them
    ),
    # As its authors advise for diffusion models.
    "prodigy": OptimizerSpec(
        "pytorch_optimizer",
        "Prodigy",
        "https://arxiv.org/abs/2306.06101",
        flat=True,
        extra="optimizers",
        state=lambda shape: 4 * _numbers(shape),
        defaults={"bias_correction": True, "safeguard_warmup": True},
    ),
    # With the recipe's learning rate and schedule, not its own.
    "adafactor": OptimizerSpec(
        "transformers",
        "Adafactor",
        "https://arxiv.org/abs/1804.04235",
        flat=False,
        state=_factored,
        defaults={"scale_parameter": False, "relative_step": False},
    ),
    "came": OptimizerSpec(
        "pytorch_optimizer",
        "CAME",
        "https://arxiv.org/abs/2307.02047",
        flat=False,
        extra="optimizers",
        state=lambda shape: _numbers(shape) + (2 if len(shape) > 1 else 1) * _factored(shape),
    ),
}
_OWN = {"params": "nothing here", "lr": "learning_rate", "weight_decay": "weight_decay"}


def check_optimizer(options: Options) -> None:
    """Raise InputError as `optimizer_class` does, without loading torch where nothing of it can be
    missing."""
    row = OPTIMIZERS[options.optimizer]
    if row.cuda or row.extra or options.optimizer_args:
        optimizer_class(options)


def optimizer_class(options: Options) -> type[torch.optim.Optimizer]:
    """The class, its arguments' names checked. Raises InputError when its card, package or an
    argument is missing."""

    row = OPTIMIZERS[options.optimizer]
    # Before a package is asked for that would not help.
    check_device(options, find_device("auto", "device"))
    try:
        kind: type[torch.optim.Optimizer] = getattr(import_module(row.module), row.name)
    except ImportError as error:
        raise InputError(
            "optimizer",
            options.optimizer,
            f"needs one more package: pip install 'onmodel[{row.extra}]'",
        ) from error
    known = sorted(set(inspect.signature(kind).parameters) - {*_OWN, "kwargs"})
    for name in options.optimizer_args:
        if name in _OWN:
            raise InputError("optimizer_args", name, f"is set by {_OWN[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = (
                f"did you mean {near[0]!r}?"
                if near
                else f"{options.optimizer} has {', '.join(known)}"
            )
            raise InputError("optimizer_args", name, remedy)
    for name, value in options.optimizer_args.items():
        _check_argument(name, value, inspect.signature(kind).parameters[name].default)
    return kind


def _check_argument(name: str, value: Any, default: Any) -> None:
    """Raise InputError for a value of another kind than the argument's default."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    plain = value if isinstance(value, str) else ""
    if isinstance(default, bool) and not isinstance(value, bool):
        raise InputError("optimizer_args", f"{name} = {value!r}", "write true or false")
    if number and (isinstance(value, bool) or not isinstance(value, int | float)):
        remedy = f"write a number without quotes, e.g. {name} = {plain or default}"
        raise InputError("optimizer_args", f"{name} = {value!r}", remedy)
    if isinstance(default, tuple) and not _are_numbers(value, len(default)):
        example = f"[{', '.join(map(str, default))}]"
        remedy = f"write {len(default)} numbers without quotes, e.g. {name} = {example}"
        raise InputError("optimizer_args", f"{name} = {value!r}", remedy)
    if default is None and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", plain, re.I):
        remedy = f"write a number without quotes: {name} = {plain}"
        raise InputError("optimizer_args", f"{name} = {value!r}", remedy)


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
    )


def state_bytes(options: Options, shapes: Sequence[Shape]) -> int:
    """What the optimizer will keep of trained tensors of these shapes, in bytes."""
    row = OPTIMIZERS[options.optimizer]
    return round(sum(map(row.state, [(sum(map(prod, shapes)),)] if row.flat else shapes)))


def frees_gradient(options: Options) -> bool:
    """Is the gradient made anew in each backward pass, and freed after the step? Where it is added
    to from several passes, or an optimizer or layer needs the matrices' own, it stays; so it does
    where layers have rates of their own, each a part of the gradient."""
    whole = OPTIMIZERS[options.optimizer].flat and not options.text_rates
    return options.network == "lora" and whole and options.gradient_accumulation == 1


def check_device(options: Options, device: torch.device) -> None:
    """Raise InputError when the optimizer does not work on this device."""
    if OPTIMIZERS[options.optimizer].cuda and device.type != "cuda":
        raise InputError(
            "optimizer",
            options.optimizer,
            f'needs an NVIDIA card, this run is on {device.type}; use "adamw"',
        )


def make_optimizer(
    options: Options, trained: Trained, rates: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """The optimizer over a run's trained tensors; `rates`: layer → learning rate, where it is not
    `learning_rate`. Raises InputError for a wrong argument or device."""
    row, kind = OPTIMIZERS[options.optimizer], optimizer_class(options)
    check_device(options, trained.flat.device)
    arguments = {**row.defaults, **options.optimizer_args}
    try:
        return kind(
            _groups(row, options, trained, rates),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            **arguments,
        )  # type: ignore[call-arg]
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(
            "optimizer_args", options.optimizer_args, f"{options.optimizer}: {error}"
        ) from error


def _groups(
    row: OptimizerSpec, options: Options, trained: Trained, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A parameter group for each run of layers that have the same learning rate, which is `share`
    times the run's own."""
    groups: list[dict[str, Any]] = []
    runs = itertools.groupby(trained.parts, lambda name: rates.get(name, options.learning_rate))
    for rate, run in runs:
        names = list(run)
        views = [view for name in names for view in trained.parts[name].values()]
        groups.append({"params": views, "share": rate / options.learning_rate})
        if row.flat:
            whole = len(names) == len(trained.parts)
            groups[-1]["params"] = [trained.flat if whole else trained.span(names)]
    return groups


def state_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The state of an optimizer as tensors and JSON numbers. `restore` puts it into a new one."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for place, values in _places(optimizer):
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{place}.{key}"] = value
            elif isinstance(value, (int, float)) and isfinite(
                value
            ):  # not: constants such as betas, or no limit
                numbers[f"{place}.{key}"] = value
    return tensors, numbers


def restore(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> None:
    """Put a saved state into a new optimizer, exactly."""
    from torch import Tensor

    places = dict(_places(optimizer))
    for full, value in (*tensors.items(), *numbers.items()):
        place, _, key = full.rpartition(".")
        if isinstance(value, Tensor):
            value = value.to(_parameters(optimizer)[0].device)
        places[place][key] = value


def _places(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, dict[str, object]]]:
    for i, group in enumerate(optimizer.param_groups):
        yield f"optimizer.group.{i}", group
    for i, parameter in enumerate(_parameters(optimizer)):
        yield f"optimizer.{i}", optimizer.state[parameter]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
