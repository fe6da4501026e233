"""The training loop. Which picture comes when, with which caption, time and noise, follows from counters alone."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.models.family import Family, Text
from onmodel.progress import Progress
from onmodel.randomness import generator
from onmodel.records import Item
from onmodel.train.adapters import Adapters, attached
from onmodel.train.objective import HELD_OUT_TIMES, draw_noise, draw_time, velocity_loss
from onmodel.train.options import Options
from onmodel.train.state import State

SAVE_EVERY = 25  # steps


@dataclass(frozen=True)
class Example:
    """A picture of the run: its latents [C, h, w], how often an epoch shows it, and what each showing says.

    Where `flips` is true for a showing, `flipped_chw` are its latents. `mask_hw` weighs the loss of each latent,
    `weight` that of the picture.
    """

    item: Item
    latents_chw: Tensor
    repeats: int
    captions: Sequence[str]
    flipped_chw: Tensor | None = None
    flips: Sequence[bool] = ()
    mask_hw: Tensor | None = None
    weight: float = 1.0

    def latents(self, exposure: int) -> Tensor:
        """What a showing is trained on."""
        return self.latents_chw if self.flipped_chw is None or not self.flips[exposure] else self.flipped_chw

    def weights(self, exposure: int) -> Tensor:
        """What each place of a showing counts in the loss, [1, h, w]."""
        mask = self.latents_chw.new_ones(self.latents_chw.shape[1:]) if self.mask_hw is None else self.mask_hw
        return self.weight * (mask.flip(-1) if self.flips and self.flips[exposure] else mask)[None]


@dataclass(frozen=True)
class Shown:
    """One showing of one example: its place in the run's examples, and which showing of it this is (from 0)."""

    example: int
    exposure: int


def epoch_batches(examples: Sequence[Example], epoch: int, batch: int, seed: int) -> list[list[Shown]]:
    """The batches of an epoch (from 1). Only pictures of one size share a batch; a size's batches are equally full."""
    rng = generator(seed, "order", epoch)
    sizes: dict[tuple[int, ...], list[Shown]] = defaultdict(list)
    for i, example in enumerate(examples):
        start = (epoch - 1) * example.repeats
        sizes[tuple(example.latents_chw.shape)] += [Shown(i, start + repeat) for repeat in range(example.repeats)]
    batches: list[list[Shown]] = []
    for size in sorted(sizes):
        order = rng.permutation(len(sizes[size]))
        parts = np.array_split(order, math.ceil(len(order) / batch))
        batches += [[sizes[size][i] for i in part] for part in parts]
    return [batches[i] for i in rng.permutation(len(batches))]


def train(
    family: Family,
    state: State,
    examples: Sequence[Example],
    heldout: Sequence[Example],
    texts: Mapping[str, Text],
    options: Options,
    *,
    seed: int,
    dtype: torch.dtype,
    progress: Progress,
    keep: Callable[[int, int], str],
) -> None:
    """Train on from where `state` is, and save it every 25 steps and every epoch.

    `keep(epoch, step)` writes a checkpoint and returns its SHA-256; one that was written just before a kill is written
    again. The same arguments give the same factors, killed or not. Raises InputError when the loss is not finite.
    """
    adapters, history, optimizer = state.adapters, state.history, state.optimizer
    steps_per_epoch = len(epoch_batches(examples, 1, options.batch, seed))
    total = steps_per_epoch * options.epochs
    with (
        attached(family, adapters, dtype),
        _checkpointing(family, options),
        progress.task("train", total=total) as task,
    ):
        task.advance(history.steps)
        for epoch in range(1, options.epochs + 1):
            first = (epoch - 1) * steps_per_epoch
            if first + steps_per_epoch <= history.steps:
                continue
            for step, batch in enumerate(epoch_batches(examples, epoch, options.batch, seed), start=first):
                if step < history.steps:
                    continue
                latents = torch.stack([examples[shown.example].latents(shown.exposure) for shown in batch])
                noise = torch.stack(
                    [draw_noise(latents.shape[1:], seed, "noise", step, slot) for slot in range(len(batch))]
                )
                t = torch.tensor([draw_time(options.timesteps, seed, step, slot) for slot in range(len(batch))])
                said = [texts[examples[shown.example].captions[shown.exposure]] for shown in batch]
                weights = batch_weights(examples, batch)

                optimizer.zero_grad(set_to_none=False)
                device = adapters.flat.device
                loss = velocity_loss(family, latents.to(device), noise.to(device), t.to(device), said, weights).mean()
                loss.backward()
                history.losses.append(loss.item())
                history.norms.append(_clip(adapters, options.grad_clip))
                history.rates.append(options.rate(step, total))
                if not math.isfinite(history.losses[-1] + history.norms[-1]):
                    raise InputError(
                        "learning_rate", options.learning_rate, f"the loss is not finite at step {step + 1}; lower it"
                    )
                optimizer.param_groups[0]["lr"] = history.rates[-1]
                optimizer.step()
                task.advance(1, epoch=epoch, loss=float(np.mean(history.losses[-steps_per_epoch:])))
                if (step + 1) % SAVE_EVERY == 0 and step + 1 < first + steps_per_epoch:
                    state.save()
            if options.kept(epoch):
                if heldout:
                    history.heldout[history.steps] = held_out_loss(family, heldout, texts, options, seed)
                history.kept[epoch] = keep(epoch, history.steps)
            state.save()


def batch_weights(examples: Sequence[Example], batch: Sequence[Shown]) -> Tensor | None:
    """What each place of each picture counts in the loss, [B, 1, h, w]; None when everything counts 1."""
    rows = [examples[shown.example] for shown in batch]
    if all(row.mask_hw is None and row.weight == 1 for row in rows):
        return None
    return torch.stack([row.weights(shown.exposure) for row, shown in zip(rows, batch, strict=True)])


@torch.no_grad()
def held_out_loss(
    family: Family, heldout: Sequence[Example], texts: Mapping[str, Text], options: Options, seed: int
) -> float:
    """Loss on pictures that are not trained on, at eight fixed times with fixed noise and plain captions."""
    device = next(family.transformer.parameters()).device
    sizes: dict[tuple[int, ...], list[tuple[Example, int]]] = defaultdict(list)
    for example in heldout:
        sizes[tuple(example.latents_chw.shape)] += [(example, i) for i in range(len(HELD_OUT_TIMES))]
    losses: list[float] = []
    for rows in sizes.values():
        for start in range(0, len(rows), options.batch):
            part = rows[start : start + options.batch]
            latents = torch.stack([example.latents_chw for example, _ in part])
            noise = torch.stack(
                [draw_noise(latents.shape[1:], seed, "held-out noise", example.item.sha256, i) for example, i in part]
            )
            t = torch.tensor([HELD_OUT_TIMES[i] for _, i in part])
            said = [texts[example.captions[0]] for example, _ in part]
            weights = torch.stack([example.weights(0) for example, _ in part])
            losses += velocity_loss(family, latents.to(device), noise.to(device), t.to(device), said, weights).tolist()
    return float(np.mean(losses))


@contextmanager
def _checkpointing(family: Family, options: Options) -> Iterator[None]:
    transformer: Any = family.transformer
    if options.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if options.gradient_checkpointing:
            transformer.disable_gradient_checkpointing()


def _clip(adapters: Adapters, limit: float) -> float:
    """Norm of the gradient before it is cut to `limit` (0: not cut)."""
    gradient = adapters.flat.grad
    assert gradient is not None
    norm = float(gradient.norm())
    if limit and norm > limit:
        gradient.mul_(limit / norm)
    return norm
