"""The training loop. Which picture comes when, with which caption, time and noise, follows from
counters alone."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onmodel.errors import InputError, PausedError
from onmodel.events import Events
from onmodel.families.protocol import Family, Text
from onmodel.processes import ALONE, Processes
from onmodel.randomness import generator
from onmodel.records import Item
from onmodel.train.adapters import Trained, attached
from onmodel.train.checkpointing import checkpointing
from onmodel.train.live import Live, Record, Rhythm
from onmodel.train.objective import (
    HELD_OUT_TIMES,
    denoising_loss,
    draw_noise,
    draw_time,
)
from onmodel.train.options import Options
from onmodel.train.pause import pausing
from onmodel.train.state import History, State

SAVE_EVERY = 25  # steps


@dataclass(frozen=True)
class Example:
    """A picture of the run: its latents [C, h, w], how often an epoch shows it, and what each
    showing says.

    Where `flips` is true for a showing, `flipped_chw` are its latents. `mask_hw` weighs the loss of
    each latent, `weight` that of the picture.
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
        return (
            self.latents_chw
            if self.flipped_chw is None or not self.flips[exposure]
            else self.flipped_chw
        )

    def weights(self, exposure: int) -> Tensor:
        """What each place of a showing counts in the loss, [1, h, w]."""
        mask = (
            self.latents_chw.new_ones(self.latents_chw.shape[1:])
            if self.mask_hw is None
            else self.mask_hw
        )
        return self.weight * (mask.flip(-1) if self.flips and self.flips[exposure] else mask)[None]


@dataclass(frozen=True)
class Shown:
    """One showing of one example: its place in the run's examples, and which showing of it this is
    (from 0)."""

    example: int
    exposure: int


def epoch_batches(
    examples: Sequence[Example], epoch: int, batch: int, seed: int
) -> list[list[Shown]]:
    """The batches of an epoch (from 1). Only pictures of one size share a batch; a size's batches
    are equally full."""
    rng = generator(seed, "order", epoch)
    sizes: dict[tuple[int, ...], list[Shown]] = defaultdict(list)
    for i, example in enumerate(examples):
        start = (epoch - 1) * example.repeats
        sizes[tuple(example.latents_chw.shape)] += [
            Shown(i, start + repeat) for repeat in range(example.repeats)
        ]
    batches: list[list[Shown]] = []
    for size in sorted(sizes):
        order = rng.permutation(len(sizes[size]))
        parts = np.array_split(order, math.ceil(len(order) / batch))
        batches += [[sizes[size][i] for i in part] for part in parts]
    return [batches[i] for i in rng.permutation(len(batches))]


def epoch_steps(
    examples: Sequence[Example], epoch: int, options: Options, seed: int
) -> list[list[list[Shown]]]:
    """The steps of an epoch (from 1), each the batches whose gradients it adds up; the last may
    have fewer."""
    batches = epoch_batches(examples, epoch, options.batch, seed)
    size = options.gradient_accumulation
    return [batches[start : start + size] for start in range(0, len(batches), size)]


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
    events: Events,
    keep: Callable[[int, int], str],
    preview: Callable[[int], None],
    processes: Processes = ALONE,
    record: Record = lambda rows: None,
) -> None:
    """Train on from where `state` is, and save it every 25 steps or, where that takes long, as
    often as it costs 4 %.

    `keep(epoch, step)` writes a checkpoint and returns its SHA-256; one that was written just
    before a kill is written again. `preview(epoch)` draws. `record` takes the rows of steps once
    they are saved. The same arguments give the same tensors, killed or not; several processes give
    those of one up to rounding. Raises InputError when the loss is not finite, PausedError after
    Ctrl-C.
    """
    adapters, history, optimizer = state.adapters, state.history, state.optimizer
    steps_per_epoch = len(epoch_steps(examples, 1, options, seed))
    total = steps_per_epoch * options.epochs
    with (
        attached(family, adapters, dtype),
        family.training(),
        checkpointing(family, options, lambda: _largest(family, examples, texts, options), events),
        pausing(events) as pause,
        events.task("train", total=total, unit="steps") as task,
    ):
        task.advance(history.steps)
        live = Live(history, steps_per_epoch, adapters.flat.device, record)
        saving = Rhythm(SAVE_EVERY)
        for epoch in range(1, options.epochs + 1):
            first = (epoch - 1) * steps_per_epoch
            if first + steps_per_epoch <= history.steps:
                continue
            for step, batches in enumerate(
                epoch_steps(examples, epoch, options, seed), start=first
            ):
                if step < history.steps:
                    continue
                history.losses.append(
                    fill_gradient(
                        family,
                        adapters,
                        examples,
                        batches,
                        texts,
                        options,
                        seed=seed,
                        step=step,
                        processes=processes,
                    )
                )
                history.norms.append(clip_gradient(adapters, options.grad_clip))
                if not math.isfinite(history.losses[-1] + history.norms[-1]):
                    raise InputError(
                        "learning_rate",
                        options.learning_rate,
                        f"the loss is not finite at step {step + 1}; lower it",
                    )
                for group in optimizer.param_groups:
                    group["lr"] = options.rate(step, total)
                optimizer.step()
                # Prodigy multiplies the rate by its own estimate d.
                history.rates.append(
                    options.rate(step, total) * optimizer.param_groups[0].get("d", 1.0)
                )
                state.average()
                task.advance(1, live.step(sum(map(len, batches))))
                dropped: set[int] = set()
                if step + 1 == first + steps_per_epoch and processes.first:
                    if options.kept(epoch):
                        if heldout:
                            _measure(family, state, heldout, texts, options, seed)
                        with state.averaged():
                            history.kept[epoch] = keep(epoch, history.steps)
                        dropped = _drop(history, options, steps_per_epoch)
                        events.row("epochs", f"epoch {epoch}: {live.words()}", **live.cells(epoch))
                    if options.preview is not None and epoch % options.preview.every == 0:
                        with state.averaged():
                            preview(epoch)
                paused = processes.agree(pause.is_set())
                # A dropped checkpoint is deleted only when no saved state names it any more.
                if processes.first and saving.due(now=paused or bool(dropped) or step + 1 == total):
                    with saving:
                        state.save()
                    live.flush()
                if paused:
                    raise PausedError(step + 1, total)


def _measure(
    family: Family,
    state: State,
    heldout: Sequence[Example],
    texts: Mapping[str, Text],
    options: Options,
    seed: int,
) -> None:
    """Note the held-out loss of the weights that are kept and, where these are an average, of the
    others."""
    history = state.history
    if state.ema is not None:
        history.heldout_without_ema[history.steps] = held_out_loss(
            family, heldout, texts, options, seed
        )
    with state.averaged():
        history.heldout[history.steps] = held_out_loss(family, heldout, texts, options, seed)


def _drop(history: History, options: Options, steps_per_epoch: int) -> set[int]:
    """Take the epochs out of the history whose checkpoints do not stay; returns them."""
    losses = {
        epoch: float(np.mean(history.heldout[epoch * steps_per_epoch])) if history.heldout else None
        for epoch in history.kept
    }
    dropped = options.dropped(losses)
    for epoch in dropped:
        del history.kept[epoch]
    return dropped


def fill_gradient(
    family: Family,
    adapters: Trained,
    examples: Sequence[Example],
    batches: Sequence[Sequence[Shown]],
    texts: Mapping[str, Text],
    options: Options,
    *,
    seed: int,
    step: int,
    processes: Processes = ALONE,
) -> float:
    """Put the gradient of a step's mean loss over its pictures into the adapters, in place of the
    last one; returns that loss.

    Several processes deal the pictures among them and add up.
    """
    device = adapters.flat.device
    adapters.gradient.zero_()
    pictures, total = sum(map(len, batches)), torch.zeros((), device=device)
    # slots count through the step, so that a picture's draws depend neither on the batches nor on
    # the deal
    first = 0
    for batch in batches:
        slots = [
            slot
            for slot in range(first, first + len(batch))
            if slot % processes.count == processes.rank
        ]
        own = [batch[slot - first] for slot in slots]
        first += len(batch)
        if not own:
            continue
        latents = torch.stack([examples[shown.example].latents(shown.exposure) for shown in own])
        noise = torch.stack(
            [draw_noise(latents.shape[1:], seed, "noise", step, slot) for slot in slots]
        )
        t = torch.tensor([draw_time(family, options.timesteps, seed, step, slot) for slot in slots])
        said = [texts[examples[shown.example].captions[shown.exposure]] for shown in own]
        weights = batch_weights(examples, own)
        losses = denoising_loss(
            family, latents.to(device), noise.to(device), t.to(device), said, weights
        )
        counted = family.objective.loss_weight(options.loss_weighting, t).to(device)
        loss = (losses * counted).sum() / pictures
        loss.backward()
        total += loss.detach()
    processes.add(adapters.gradient)
    processes.add(total)
    return float(total)


def _largest(
    family: Family, examples: Sequence[Example], texts: Mapping[str, Text], options: Options
) -> Tensor:
    """The loss of one picture of the largest size, to see what it takes."""
    example = max(examples, key=lambda one: one.latents_chw.numel())
    latents = example.latents_chw.unsqueeze(0).to(next(family.backbone.parameters()).device)
    t = torch.full((1,), 0.5, device=latents.device)
    return denoising_loss(
        family, latents, torch.zeros_like(latents), t, [texts[example.captions[0]]]
    ).mean()


def batch_weights(examples: Sequence[Example], batch: Sequence[Shown]) -> Tensor | None:
    """What each place of each picture counts in the loss, [B, 1, h, w]; None when everything counts
    1."""
    rows = [examples[shown.example] for shown in batch]
    if all(row.mask_hw is None and row.weight == 1 for row in rows):
        return None
    return torch.stack(
        [row.weights(shown.exposure) for row, shown in zip(rows, batch, strict=True)]
    )


@torch.no_grad()
def held_out_loss(
    family: Family,
    heldout: Sequence[Example],
    texts: Mapping[str, Text],
    options: Options,
    seed: int,
) -> list[float]:
    """Loss on pictures that are not trained on, at eight fixed times with fixed noise and plain
    captions: its mean in each quartile of the times, from the cleanest to the noisiest. Masks
    count, weights of times do not, so that runs can be compared.
    """
    device = next(family.backbone.parameters()).device
    sizes: dict[tuple[int, ...], list[tuple[Example, int]]] = defaultdict(list)
    for example in heldout:
        sizes[tuple(example.latents_chw.shape)] += [
            (example, i) for i in range(len(HELD_OUT_TIMES))
        ]
    quartiles: list[list[float]] = [[], [], [], []]
    for rows in sizes.values():
        for start in range(0, len(rows), options.batch):
            part = rows[start : start + options.batch]
            latents = torch.stack([example.latents_chw for example, _ in part])
            noise = torch.stack(
                [
                    draw_noise(latents.shape[1:], seed, "held-out noise", example.item.content, i)
                    for example, i in part
                ]
            )
            t = torch.tensor([HELD_OUT_TIMES[i] for _, i in part])
            said = [texts[example.captions[0]] for example, _ in part]
            weights = torch.stack([example.weights(0) for example, _ in part])
            losses = denoising_loss(
                family, latents.to(device), noise.to(device), t.to(device), said, weights
            ).tolist()
            for (_, i), loss in zip(part, losses, strict=True):
                quartiles[i * 4 // len(HELD_OUT_TIMES)].append(loss)
    return [float(np.mean(quartile)) for quartile in quartiles]


def clip_gradient(adapters: Trained, limit: float) -> float:
    """Norm of the gradient before it is cut to `limit` (0: not cut)."""
    norm = float(adapters.gradient.norm())
    if limit and norm > limit:
        adapters.gradient.mul_(limit / norm)
    return norm
