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

from onmodel.dataset.captions import caption_of, plain_caption
from onmodel.errors import InputError
from onmodel.models.family import Family, Text
from onmodel.processes import ALONE, Processes
from onmodel.progress import Progress
from onmodel.randomness import generator
from onmodel.records import Item
from onmodel.train.adapters import Adapters, attached
from onmodel.train.live import Live, Record, Rhythm
from onmodel.train.objective import HELD_OUT_TIMES, draw_noise, draw_time, velocity_loss
from onmodel.train.options import Options
from onmodel.train.state import State

SAVE_EVERY = 25  # steps


@dataclass(frozen=True)
class Example:
    """A picture of the run: its latents [C, h, w], how often an epoch shows it, and what each showing says."""

    item: Item
    latents_chw: Tensor
    repeats: int
    captions: Sequence[str]


@dataclass(frozen=True)
class Shown:
    """One showing of one example: its place in the run's examples, and which showing of it this is (from 0)."""

    example: int
    exposure: int


def captions_of(item: Item, repeats: int, options: Options, seed: int) -> list[str]:
    """What each showing of a picture over the whole run says."""
    return [caption_of(item, exposure, options.caption_rules, seed) for exposure in range(repeats * options.epochs)]


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
    processes: Processes = ALONE,
    record: Record = lambda rows: None,
) -> None:
    """Train on from where `state` is, and save it every 25 steps or, where that takes long, as often as it costs 4 %.

    `keep(epoch, step)` writes a checkpoint and returns its SHA-256; one that was written just before a kill is written
    again. `record` takes the rows of steps once they are saved. The same arguments give the same factors, killed or
    not; several processes give those of one up to rounding. Raises InputError when the loss is not finite.
    """
    adapters, history, optimizer = state.adapters, state.history, state.optimizer
    steps_per_epoch = len(epoch_batches(examples, 1, options.batch, seed))
    total = steps_per_epoch * options.epochs
    with (
        attached(family, adapters, dtype),
        family.training(),
        _checkpointing(family, options),
        progress.task("train", total=total) as task,
    ):
        task.advance(history.steps)
        live = Live(history, steps_per_epoch, adapters.flat.device, record)
        saving = Rhythm(SAVE_EVERY)
        for epoch in range(1, options.epochs + 1):
            first = (epoch - 1) * steps_per_epoch
            if first + steps_per_epoch <= history.steps:
                continue
            for step, batch in enumerate(epoch_batches(examples, epoch, options.batch, seed), start=first):
                if step < history.steps:
                    continue
                history.losses.append(
                    fill_gradient(
                        family, adapters, examples, batch, texts, options, seed=seed, step=step, processes=processes
                    )
                )
                history.norms.append(clip_gradient(adapters, options.grad_clip))
                history.rates.append(options.rate(step, total))
                if not math.isfinite(history.losses[-1] + history.norms[-1]):
                    raise InputError(
                        "learning_rate", options.learning_rate, f"the loss is not finite at step {step + 1}; lower it"
                    )
                optimizer.param_groups[0]["lr"] = history.rates[-1]
                optimizer.step()
                task.advance(1, live.step(len(batch)))
                if options.kept(epoch) and step + 1 == first + steps_per_epoch and processes.first:
                    if heldout:
                        history.heldout[history.steps] = held_out_loss(family, heldout, texts, options, seed)
                    history.kept[epoch] = keep(epoch, history.steps)
                    progress.console.print(f"  epoch {epoch}: {live.words()}", highlight=False)
                if processes.first and saving.due(last=step + 1 == total):
                    with saving:
                        state.save()
                    live.flush()


def fill_gradient(
    family: Family,
    adapters: Adapters,
    examples: Sequence[Example],
    batch: Sequence[Shown],
    texts: Mapping[str, Text],
    options: Options,
    *,
    seed: int,
    step: int,
    processes: Processes = ALONE,
) -> float:
    """Put the gradient of a batch's mean loss into the adapters, in place of the last one; returns the loss.

    Several processes deal the batch among them and add up.
    """
    device = adapters.flat.device
    slots = range(processes.rank, len(batch), processes.count)  # of the batch, so that draws do not depend on the deal
    own = [batch[slot] for slot in slots]
    adapters.gradient.zero_()
    loss = torch.zeros((), device=device)
    if own:
        latents = torch.stack([examples[shown.example].latents_chw for shown in own]).to(device)
        noise = torch.stack([draw_noise(latents.shape[1:], seed, "noise", step, slot) for slot in slots]).to(device)
        t = torch.tensor([draw_time(options.timesteps, seed, step, slot) for slot in slots]).to(device)
        said = [texts[examples[shown.example].captions[shown.exposure]] for shown in own]
        loss = velocity_loss(family, latents, noise, t, said).sum() / len(batch)
        loss.backward()
    loss = loss.detach()
    processes.add(adapters.gradient)
    processes.add(loss)
    return float(loss)


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
            said = [texts[plain_caption(example.item, options.caption_rules)] for example, _ in part]
            losses += velocity_loss(family, latents.to(device), noise.to(device), t.to(device), said).tolist()
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


def clip_gradient(adapters: Adapters, limit: float) -> float:
    """Norm of the gradient before it is cut to `limit` (0: not cut)."""
    norm = float(adapters.gradient.norm())
    if limit and norm > limit:
        adapters.gradient.mul_(limit / norm)
    return norm
