"""The training loop. The order of the pictures and their captions, times and noise depend on
counters and the seed alone."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from onmodel.devices import STREAMED, select
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
    draw_offset,
    draw_time,
)
from onmodel.train.optimizers import frees_gradient
from onmodel.train.options import Options
from onmodel.train.pause import pausing
from onmodel.train.readings import Readings
from onmodel.train.state import History, State
from onmodel.transfer import send

SAVE_EVERY = 25  # steps
# A gradient of exactly 0 for so many steps, or a whole epoch, is no chance: pictures that do not
# count may share steps, but not all of them.
MOST_IDLE_STEPS = 25
MEET_EVERY = 10  # steps after which several processes agree on a pause


@dataclass(frozen=True)
class Example:
    """A picture of the run: its latents [C, h, w], how often an epoch uses it (`repeats`), and the
    caption of each use. Where `flips` is true for a use, its latents are `flipped_chw`. `mask_hw`
    weights the loss of each latent, `weight` the loss of the picture."""

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
        for part in parts:
            batches.append([sizes[size][i] for i in part])
    return [batches[i] for i in rng.permutation(len(batches))]


def epoch_steps(
    examples: Sequence[Example], epoch: int, options: Options, seed: int
) -> list[list[list[Shown]]]:
    """The steps of an epoch (from 1), each the batches whose gradients it adds up; the last may
    have fewer."""
    batches = epoch_batches(examples, epoch, options.batch, seed)
    size = options.gradient_accumulation
    return [batches[start : start + size] for start in range(0, len(batches), size)]


@dataclass(frozen=True)
class TrainingInputs:
    """What a training computes from: the base, the examples with the encoded captions that they
    use, and the options. None of it changes during the run."""

    family: Family
    examples: Sequence[Example]
    heldout: Sequence[Example]
    texts: Mapping[str, Text]
    options: Options
    seed: int
    dtype: torch.dtype = torch.float32

    @cached_property
    def steps_per_epoch(self) -> int:
        return len(epoch_steps(self.examples, 1, self.options, self.seed))

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.options.epochs

    def remaining(self, done: int) -> Iterator[tuple[int, list[list[Shown]]]]:
        """The steps after the first `done`, numbered from 0, each with its batches."""
        for epoch in range(done // self.steps_per_epoch + 1, self.options.epochs + 1):
            steps = epoch_steps(self.examples, epoch, self.options, self.seed)
            first = (epoch - 1) * self.steps_per_epoch
            for step, batches in enumerate(steps, start=first):
                if step >= done:
                    yield step, batches


@dataclass(frozen=True)
class Batch:
    """What a process computes of a batch, on its device: latents, noise, times, texts, what each
    place counts [B, 1, h, w] (None: 1), and what each picture counts [B]."""

    latents_bchw: Tensor
    noise_bchw: Tensor
    t_b: Tensor
    texts: Sequence[Text]
    weights_b1hw: Tensor | None
    counted_b: Tensor


@dataclass(frozen=True)
class TrainStep:
    """A step, numbered from 0: how many pictures all processes compute, and this one's batches."""

    number: int
    pictures: int
    batches: Sequence[Batch]


def prepared_steps(
    training: TrainingInputs, done: int, device: torch.device, processes: Processes
) -> Iterator[TrainStep]:
    """The steps after the first `done`. For a card, a thread prepares a step while the one before
    is computed."""

    def prepared(numbered: tuple[int, list[list[Shown]]]) -> TrainStep:
        return prepare(training, *numbered, device, processes)

    steps = training.remaining(done)
    if device.type not in STREAMED:
        yield from map(prepared, steps)
        return
    with ThreadPoolExecutor(1, "prepare", select, (device,)) as thread:
        waiting: deque[Future[TrainStep]] = deque()
        for numbered in steps:
            waiting.append(thread.submit(prepared, numbered))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def prepare(
    training: TrainingInputs,
    number: int,
    batches: Sequence[Sequence[Shown]],
    device: torch.device,
    processes: Processes = ALONE,
) -> TrainStep:
    """A step with its noise and times drawn. Several processes share the pictures."""
    # Slots count through the step, so that the draws of a picture depend neither on the batches nor
    # on the number of processes.
    first, own = 0, []
    for batch in batches:
        slots = [
            slot
            for slot in range(first, first + len(batch))
            if slot % processes.count == processes.rank
        ]
        if slots:
            shown = [batch[slot - first] for slot in slots]
            own.append(_prepare_batch(training, number, shown, slots, device))
        first += len(batch)
    return TrainStep(number, first, own)


def _prepare_batch(
    training: TrainingInputs,
    step: int,
    batch: Sequence[Shown],
    slots: Sequence[int],
    device: torch.device,
) -> Batch:
    family, examples, seed, options = (
        training.family,
        training.examples,
        training.seed,
        training.options,
    )
    latents = torch.stack([examples[shown.example].latents(shown.exposure) for shown in batch])
    noise = torch.stack(
        [draw_noise(latents.shape[1:], seed, "noise", step, slot) for slot in slots]
    )
    if offset := options.noise_offset:
        channels = latents.shape[1]
        noise += torch.stack([draw_offset(offset, channels, seed, step, slot) for slot in slots])
    flow = family.spec.prediction == "flow"
    t = torch.tensor([draw_time(options.timesteps, flow, seed, step, slot) for slot in slots])
    texts = [training.texts[examples[one.example].captions[one.exposure]] for one in batch]
    weights = batch_weights(examples, batch)
    counted = family.objective.loss_weight(options.loss_weighting, t)
    return Batch(
        send(latents, device),
        send(noise, device),
        send(t, device),
        texts,
        None if weights is None else send(weights, device),
        send(counted, device),
    )


@dataclass(frozen=True)
class Outputs:
    """What a training calls to write its results.

    `keep(epoch, step)` writes a checkpoint and returns its SHA-256; a checkpoint that was written
    just before a kill is written again. `preview(epoch)` draws pictures. `record` takes the rows of
    steps once they are saved.
    """

    keep: Callable[[int, int], str]
    preview: Callable[[int], None]
    record: Record = lambda rows: None


def train(
    training: TrainingInputs,
    state: State,
    outputs: Outputs,
    events: Events,
    processes: Processes = ALONE,
) -> None:
    """Continue the training from `state`. Save the state every 25 steps or every minute, or less
    often where saving would take more than 4 % of the time.

    The same arguments give the same tensors, interrupted or not. Several processes give those of
    one up to rounding. Raises InputError when the loss is not finite, before anything is saved, or
    when nothing is learnt; PausedError after Ctrl-C.
    """
    family, options, history = training.family, training.options, state.history
    with (
        attached(family, state.adapters, training.dtype),
        family.training(),
        checkpointing(family, options, lambda: _largest(training), events),
        pausing(events) as pause,
        events.task("train", total=training.steps, unit="steps") as task,
    ):
        task.advance(history.steps)
        device = state.adapters.flat.device
        live = Live(history, training.steps_per_epoch, device, outputs.record)
        saving, readings = (
            Rhythm(SAVE_EVERY),
            Readings(history, options.learning_rate, lambda: _check_learning(training, history)),
        )
        for step in prepared_steps(training, history.steps, device, processes):
            readings.add(*_update(training, state, step, processes))
            done = step.number + 1
            ends = done % training.steps_per_epoch == 0
            meet = ends or done % MEET_EVERY == 0
            if meet or (processes.count == 1 and readings.due()):
                readings.read()
            task.advance(1, live.step(step.pictures))
            dropped = False
            if ends and processes.first:
                dropped = _end_epoch(training, state, outputs, live, events)
            paused = (meet or processes.count == 1) and processes.agree(pause.is_set())
            # A dropped checkpoint is deleted only when no saved state names it any more.
            now = paused or dropped or done == training.steps
            if processes.first and saving.due(now):
                readings.read()
                with saving:
                    state.save()
                live.flush()
            if paused:
                raise PausedError(done, training.steps)


def _update(
    training: TrainingInputs, state: State, step: TrainStep, processes: Processes
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer; returns its loss and the norm of its gradient, on the device."""
    adapters, history, options = state.adapters, state.history, training.options
    loss = fill_gradient(training, adapters, step, processes)
    norm = clip_gradient(adapters, options.grad_clip)
    rate = options.rate(step.number, training.steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["share"]
    state.optimizer.step()
    _clear_gradient(adapters, options)
    # Prodigy multiplies the rate by its own estimate d.
    history.rates.append(rate * state.optimizer.param_groups[0].get("d", 1.0))
    state.average()
    return loss, norm


def _check_learning(training: TrainingInputs, history: History) -> None:
    """Raise InputError when the last steps had no gradient at all."""
    count = min(MOST_IDLE_STEPS, training.steps_per_epoch)
    if len(history.norms) < count or any(history.norms[-count:]):
        return
    steps = f"{count} steps running" if count > 1 else "a whole epoch"
    if any(history.losses[-count:]):
        raise InputError(
            "targets",
            training.options.targets,
            f"nothing is learnt: the gradient was 0 for {steps}; train other layers",
        )
    raise InputError(
        "loss",
        0,
        f"nothing is learnt: the loss was 0 for {steps}; masks are black there, or loss_weight or"
        " prior_weight is 0",
    )


def _end_epoch(
    training: TrainingInputs, state: State, outputs: Outputs, live: Live, events: Events
) -> bool:
    """Keep the checkpoint and draw the preview of the epoch that just ended, where the options say
    so. Returns whether an older checkpoint is dropped for it."""
    options, history = training.options, state.history
    epoch = history.steps // training.steps_per_epoch
    dropped = False
    if options.kept(epoch):
        if training.heldout:
            _measure(training, state)
        with state.averaged():
            history.kept[epoch] = outputs.keep(epoch, history.steps)
        dropped = _drop(history, options, training.steps_per_epoch)
        events.row("epochs", f"epoch {epoch}: {live.words()}", **live.cells(epoch))
    if options.preview is not None and epoch % options.preview.every == 0:
        with state.averaged():
            outputs.preview(epoch)
    return dropped


def _measure(training: TrainingInputs, state: State) -> None:
    """Note the held-out loss of the weights that are kept. Where these are an average, note that of
    the weights themselves too."""
    history = state.history
    if state.ema is not None:
        history.heldout_without_ema[history.steps] = held_out_loss(training)
    with state.averaged():
        history.heldout[history.steps] = held_out_loss(training)


def _drop(history: History, options: Options, steps_per_epoch: int) -> bool:
    """Remove the epochs whose checkpoints do not stay from the history; returns whether there are
    any."""
    losses = {
        epoch: float(np.mean(history.heldout[epoch * steps_per_epoch])) if history.heldout else None
        for epoch in history.kept
    }
    dropped = options.dropped(losses)
    for epoch in dropped:
        del history.kept[epoch]
    return bool(dropped)


def fill_gradient(
    training: TrainingInputs, adapters: Trained, step: TrainStep, processes: Processes = ALONE
) -> Tensor:
    """Replace the adapters' gradient by that of a step's mean loss over its pictures; returns that
    loss, on the device.

    Several processes share the pictures, and their gradients are added.
    """
    _clear_gradient(adapters, training.options)
    total = torch.zeros((), device=adapters.flat.device)
    for batch in step.batches:
        with adapters.low_precision(training.dtype):
            losses = denoising_loss(
                training.family,
                batch.latents_bchw,
                batch.noise_bchw,
                batch.t_b,
                batch.texts,
                batch.weights_b1hw,
            )
            loss = (losses * batch.counted_b).sum() / step.pictures
            loss.backward()
        total += loss.detach()
    processes.add(adapters.gradient)
    processes.add(total)
    return total


def _clear_gradient(adapters: Trained, options: Options) -> None:
    """Between two steps a gradient takes memory where it cannot be made anew."""
    if frees_gradient(options):
        adapters.free_gradient()
    else:
        adapters.gradient.zero_()


def _largest(training: TrainingInputs) -> Tensor:
    """The loss of one picture of the largest size, to measure its memory."""
    example = max(training.examples, key=lambda one: one.latents_chw.numel())
    device = training.family.device
    latents = example.latents_chw.unsqueeze(0).to(device)
    t = torch.full((1,), 0.5, device=device)
    text = training.texts[example.captions[0]]
    return denoising_loss(training.family, latents, torch.zeros_like(latents), t, [text]).mean()


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
def held_out_loss(training: TrainingInputs) -> list[float]:
    """Loss on the held-out pictures at eight fixed times with fixed noise and plain captions: its
    mean in each quartile of the times, from the cleanest to the noisiest.

    Masks count; the weights of times do not, so that runs can be compared.
    """
    family, times = training.family, range(len(HELD_OUT_TIMES))
    device = family.device
    sizes: dict[tuple[int, ...], list[tuple[Example, int]]] = defaultdict(list)
    for example in training.heldout:
        sizes[tuple(example.latents_chw.shape)] += [(example, i) for i in times]
    quartiles: list[list[float]] = [[], [], [], []]
    for rows in sizes.values():
        for start in range(0, len(rows), training.options.batch):
            part = rows[start : start + training.options.batch]
            latents = torch.stack([example.latents_chw for example, _ in part])
            shape, seed = latents.shape[1:], training.seed
            noise = torch.stack(
                [
                    draw_noise(shape, seed, "held-out noise", example.item.content, i)
                    for example, i in part
                ]
            )
            t = torch.tensor([HELD_OUT_TIMES[i] for _, i in part])
            texts = [training.texts[example.captions[0]] for example, _ in part]
            weights = torch.stack([example.weights(0) for example, _ in part])
            losses = denoising_loss(
                family, latents.to(device), noise.to(device), t.to(device), texts, weights
            ).tolist()
            for (_, i), loss in zip(part, losses, strict=True):
                quartiles[i * 4 // len(times)].append(loss)
    return [float(np.mean(quartile)) for quartile in quartiles]


def clip_gradient(adapters: Trained, limit: float) -> Tensor:
    """Norm of the gradient before it is cut to `limit` (0: not cut), on the device."""
    norm = adapters.gradient.norm()
    if limit:
        # Divided in float64, rounded once. A norm within the limit gives 1, which changes nothing.
        adapters.gradient.mul_((limit / norm.double()).clamp(max=1.0).float())
    return norm
