"""How much memory each stage of a plan takes on this machine, before it runs.

A stage is a few phases, e.g. encoding pictures and training; a phase is the parts that are in
memory at its peak. Weights and the run's state follow from shapes, activations are counted on
tensors without data, and what the process itself takes is measured. The plan of a base that ships
with the package needs no torch: it is small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from onmodel.devices import free_memory
from onmodel.engine.plan import Step
from onmodel.events import Events
from onmodel.families.modes import Modes, described
from onmodel.families.protocol import BaseFacts, Outline
from onmodel.families.registry import base_facts, device_dtype, outline, parse_base
from onmodel.hashing import hash_json
from onmodel.recipe import Recipe
from onmodel.sample.sampling import DrawnBatch
from onmodel.stages.base import Plan, TrainingSettings
from onmodel.stages.generating import Generating
from onmodel.train.networks import TrainingSize, training_size

if TYPE_CHECKING:
    import torch

    from onmodel.train.fitting import Peaks

_SMALL = 2**28  # parameters; the memory of a smaller base is nobody's worry
_USUAL_RANK = 32  # of a LoRA that is sampled with
_TOKENIZERS = 85 * 2**20  # bytes, measured with the published ones
# A processor's C library keeps freed pieces of up to 32 MiB in a heap that the next ones do not
# fill. Measured shares of the activations at 256 px (LOG.md); with the VAE at most
# _CODEC_HEAP bytes, because at larger sizes most of its pieces are larger.
_STEP_HEAP, _SAMPLING_HEAP, _CODED_HEAP = 1.4, 1.0, 3.0
_CODEC_HEAP = 384 * 2**20
_MOST_STEP_HEAP = 2 * 2**30  # bytes; not measured above 512 px, where most pieces are larger too
# The kinds of components that a phase needs; the others are not in memory. The backbone is counted
# by its modes.
_KINDS: Mapping[str, Sequence[str]] = {
    "encode pictures": ("vae",),
    "encode captions": ("text conditioner", "text encoder"),
    "train": (),
    "preview": ("vae",),
    "encode prompts": ("text conditioner", "text encoder"),
    "sample": ("vae",),
}
_BACKBONE = ("train", "preview", "sample")


@dataclass(frozen=True)
class Machine:
    """Where a recipe runs. `process`: bytes of Python with its libraries, 0 on a card; `room`:
    bytes that are free for a run, `process` among them."""

    device: str
    dtype: "torch.dtype"
    process: int
    room: int


@dataclass(frozen=True)
class PhaseMemory:
    """Bytes by part at the peak of a phase."""

    name: str
    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def largest(self) -> str:
        """The part that takes most."""
        return max(self.parts, key=lambda part: self.parts[part])


@dataclass(frozen=True)
class StageMemory:
    """The phases of a stage, what of the recipe can lower its peak, and the modes that save memory
    in words."""

    stage: str
    phases: Sequence[PhaseMemory]
    remedy: str
    modes: str

    @property
    def peak(self) -> PhaseMemory:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.bytes)


@dataclass(frozen=True)
class Forecast:
    """The base's facts, what each training trains, and the memory of every stage that uses the
    base; none, and no machine, of a base that ships with the package or is small."""

    base: BaseFacts
    trained: Mapping[str, TrainingSize]
    machine: Machine | None
    memory: Mapping[str, StageMemory]

    def remedy(self, stage: StageMemory) -> str | None:
        """What makes a stage fit into the memory that is free; None where it fits."""
        if self.machine is None or stage.peak.bytes <= self.machine.room:
            return None
        if self.machine.dtype.itemsize > 2:
            return 'set dtype = "bfloat16" in the recipe\'s base'
        return stage.remedy


def this_machine(recipe: Recipe) -> Machine:
    """This machine, in the dtype that the recipe's base will have on it."""
    import psutil
    import torch

    device, dtype = device_dtype(parse_base(recipe.base))
    if device != "cpu":
        return Machine(device, dtype, 0, free_memory(torch.device(device)))
    process = psutil.Process().memory_info().rss
    return Machine(device, dtype, process, psutil.virtual_memory().available + process)


def forecast(
    recipe: Recipe, steps: Sequence[Step], events: Events, machine: Machine | None = None
) -> Forecast:
    """What every stage takes, here or on another `machine`. No weight is read, nothing is
    downloaded. Raises InputError for files that do not fit."""
    base = parse_base(recipe.base)
    facts = base_facts(base)
    shapes = None
    if facts is None:
        shapes = outline(base)
        sizes = {name: shapes.parameters(name) for name in shapes.components}
        facts = BaseFacts(shapes.spec, sizes, shapes.found, shapes.missing)
    trained = {
        step.name: training_size(facts.spec, step.settings)
        for step in steps
        if isinstance(step.settings, TrainingSettings)
    }
    if shapes is None or facts.parameters[facts.spec.backbone] < _SMALL:
        return Forecast(facts, trained, None, {})
    machine = machine or this_machine(recipe)
    known = _Forecaster(shapes, machine, {step.name: step.plan for step in steps})
    memory: dict[str, StageMemory] = {}
    with events.task("plan memory", total=len(steps)) as task:
        for step in steps:
            if found := known.stage(step):
                memory[step.name] = found
            task.advance()
    return Forecast(facts, trained, machine, memory)


class _Forecaster:
    """The memory of stages. Each kind of work is counted once: stages are often alike."""

    def __init__(self, outline: Outline, machine: Machine, plans: Mapping[str, Plan]) -> None:
        from onmodel.sample.memory import sampling_bytes

        self._outline, self._machine, self._plans = outline, machine, plans
        self._sampled = cache(partial(sampling_bytes, outline, dtype=machine.dtype))
        self._peaks: dict[str, Peaks] = {}

    @cached_property
    def _text(self) -> int:
        """Of the encoding of a caption."""
        from onmodel.train.memory import LONGEST

        return self._outline.text_bytes(LONGEST, self._machine.dtype)

    def stage(self, step: Step) -> StageMemory | None:
        """None for a stage that does not use the base."""
        if isinstance(step.settings, TrainingSettings):
            return self._training(step.name, step.settings, step.plan.drawn)
        if step.plan.drawn is None:
            return None
        modes, lora = Modes(), {"LoRA": self._lora()}
        if isinstance(step.settings, Generating):
            modes = Modes(vae_tiles=step.settings.vae_tiles, swap_blocks=step.settings.swap_blocks)
        phases = (
            self._phase("encode prompts", modes, lora, self._text),
            self._sampling("sample", modes, lora, step.plan.drawn),
        )
        return StageMemory(step.name, phases, "lower batch or size", described(modes))

    def _training(
        self, name: str, settings: TrainingSettings, preview: DrawnBatch | None
    ) -> StageMemory:
        from onmodel.train.checkpointing import SHARE
        from onmodel.train.fitting import Peaks, planned_modes
        from onmodel.train.memory import run_bytes
        from onmodel.train.precision import product_dtype

        outline, machine = self._outline, self._machine
        side = max(settings.sides(self._plans))
        products = product_dtype(settings, machine.device)
        key = hash_json([settings.shapes(), side])
        if key not in self._peaks:
            self._peaks[key] = Peaks(outline, settings, machine.dtype, products, side)
        peaks = self._peaks[key]
        modes = planned_modes(peaks, settings, machine.device, machine.room)
        run = {"run state": run_bytes(outline.spec, settings)}
        kept = run | {name.replace("_", " "): size for name, size in peaks.text.items()}
        room = machine.room - self._phase("train", modes, kept).bytes
        if not modes.checkpointing and settings.gradient_checkpointing == "auto":
            wanted = peaks.step(modes).activations > SHARE * room
            modes = replace(modes, checkpointing=wanted)
        step = peaks.step(modes)
        tiles = modes.vae_tiles
        encoded = outline.encoding_bytes(side, side, machine.dtype, tiles)
        attached = kept | {"LoRA copies": peaks.copies(modes)}
        heap = min(int(_STEP_HEAP * step.activations), _MOST_STEP_HEAP)
        phases = [
            self._phase("encode pictures", modes, run, encoded, _coded_heap(encoded)),
            self._phase("encode captions", modes, run, self._text),
            self._phase("train", modes, attached, step.activations, heap),
        ]
        if preview is not None:
            phases.append(self._sampling("preview", modes, attached, preview))
        remedy = "lower batch or resolution"
        if not modes.checkpointing:
            remedy = f"set gradient_checkpointing = true, or {remedy}"
        return StageMemory(name, phases, remedy, described(modes))

    def _lora(self) -> int:
        """Bytes of a LoRA that is added to the base: as many numbers as usual ones have."""
        spec = self._outline.spec
        layers = spec.targets(next(iter(spec.presets)))
        return 4 * _USUAL_RANK * sum(layer.out_features + layer.in_features for layer in layers)

    def _sampling(
        self, phase: str, modes: Modes, others: Mapping[str, int], batch: DrawnBatch
    ) -> PhaseMemory:
        found = self._sampled(batch, modes.vae_tiles)
        heap = int(_SAMPLING_HEAP * min(found.step, _CODEC_HEAP)) + _coded_heap(found.decoding)
        return self._phase(phase, modes, others, max(found.step, found.decoding), heap)

    def _phase(
        self,
        name: str,
        modes: Modes,
        others: Mapping[str, int],
        activations: int = 0,
        heap: int = 0,
    ) -> PhaseMemory:
        """A phase with the process, the weights that are in memory, and what else it takes."""
        from onmodel.families.counting import backbone_bytes

        outline, machine = self._outline, self._machine
        spec = outline.spec
        weights = {
            part.name.replace("_", " "): outline.weight_bytes(part.name, machine.dtype)
            for part in spec.components
            if part.kind in _KINDS[name]
        }
        if machine.device == "cpu":  # swapped blocks lie in the same memory
            modes = replace(modes, swap_blocks=0)
        if name in _BACKBONE:
            weights[spec.backbone] = backbone_bytes(outline, machine.dtype, modes)
        parts = {**weights, **others, "activations": activations}
        if machine.device == "cpu":
            parts = {"process": machine.process + _TOKENIZERS, **parts, "heap": heap}
        return PhaseMemory(name, {part: size for part, size in parts.items() if size})


def _coded_heap(activations: int) -> int:
    """The heap that encoding or decoding pictures leaves."""
    return min(int(_CODED_HEAP * activations), _CODEC_HEAP)
