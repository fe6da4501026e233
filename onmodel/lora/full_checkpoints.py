"""Full checkpoints in merges: their difference to the base as a LoRA, and LoRAs added into one.

A checkpoint is a safetensors file of a whole transformer, in the base's own key layout or
diffusers' names; a single file with the text conditioner in it is one too. All of it is streamed:
the memory is that of one layer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.protocol import FamilySpec
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.lora.author_paths import without_author_paths
from onmodel.lora.factors import Factors, LayerShape, factor_dense
from onmodel.lora.merge_files import LONGEST
from onmodel.lora.merge_job import MergeInput, rounded, task
from onmodel.lora.methods import Blend
from onmodel.lora.specs import layers_of_checkpoint
from onmodel.lora.writing import FileFormat, LoraTensors, rank_words
from onmodel.text import shown
from onmodel.weights import FLOATS, WeightsFile, decode, encode, stream_weights, written_order


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. `keys` maps its layers, by the base's names, to the key of their
    weight."""

    file: WeightsFile
    spec: FamilySpec
    keys: Mapping[str, str]

    @property
    def others(self) -> dict[str, str]:
        """Tensors outside the layers (embeddings, biases): name without the file's prefix
        → key."""
        first = self.spec.linears[0]
        key = self.keys[first.name].removesuffix(".weight")
        prefix = key.removesuffix(first.name).removesuffix(first.diffusers)
        layers = set(self.keys.values())
        return {key.removeprefix(prefix): key for key in self.file.entries if key not in layers}

    def lineage(self) -> Lineage:
        """Its history where the header has one, else a node of unknown origin with its hash."""
        return header.lineage_of(self.file.metadata, sha256_file(self.file.path))


@dataclass(frozen=True)
class ExtractReport:
    """What `extract` wrote. `energy_kept`: the share 0…1 of the difference's energy; `strength`:
    ‖ΔW‖; `beyond_a_lora`: tensors that no LoRA can hold (norms, embeddings) → their share."""

    rank: int
    layers: int
    energy_kept: float
    strength: float
    beyond_a_lora: Mapping[str, float]


@dataclass(frozen=True)
class IntoReport:
    """What `into` wrote. `strength`: ‖ΔW‖; `rounding_loss`: ‖written change − ΔW‖ / ‖ΔW‖;
    `unchanged_entries`: the share 0…1 of entries with a change that rounding lost whole."""

    blend: Blend
    layers: int
    strength: float
    rounding_loss: float
    unchanged_entries: float
    dtypes: list[str]

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        own = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {**self.blend.facts(), **own}


def open_checkpoint(path: Path, field: str) -> Checkpoint:
    """Open a checkpoint. Raises InputError when it is none of a known family. The caller closes
    `file`."""
    file = WeightsFile(path, field)
    try:
        spec, keys = layers_of_checkpoint(file)
    except BaseException:
        file.__exit__(None, None, None)
        raise
    return Checkpoint(file, spec, keys)


def extract(
    out: Path,
    tuned: Path,
    base: Path,
    rank: int,
    title: str,
    dtype: str = "F32",
    events: Events | None = None,
) -> ExtractReport:
    """Write the difference of a fine-tuned checkpoint to its base as a LoRA of `rank`, alpha =
    rank.

    Raises InputError when the two do not belong together or do not differ.
    """
    one, other = open_checkpoint(tuned, "checkpoint"), open_checkpoint(base, "base")
    with one.file, other.file:
        rows = (*one.spec.backbone_layers, *other.spec.backbone_layers)
        trained = {linear.name for linear in rows}
        if odd := sorted(trained & (set(one.keys) ^ set(other.keys))):
            raise InputError(
                "base", base, f"has other layers than {tuned} ({len(odd)}, e.g. {odd[0]})"
            )
        energies, beyond = _energies(one, other, events)
        changed = [
            linear.name for linear in one.spec.lora_linears if energies.get(linear.name, 0) > 0
        ]
        total = sum(energies.values()) + sum(beyond.values())
        if not changed:
            raise InputError(
                "checkpoint", tuned, f"no layer differs from {base}; there is nothing to extract"
            )
        shapes = {n: one.file.entries[one.keys[n]].shape for n in changed}
        sizes = {name: (shape[0], math.prod(shape[1:])) for name, shape in shapes.items()}
        layers = {name: LayerShape(*sizes[name], min(rank, *sizes[name])) for name in changed}
        alphas = {name: float(layer.rank) for name, layer in layers.items()}
        histories = [one.lineage(), other.lineage()]
        kept = 0.0

        def words(share: float) -> dict[str, str]:
            facts = {"name": title, "rank": rank, "energy_kept": round(share, 6)}
            lineage = add(
                histories, "extract", tuned=root(histories[0]), base=root(histories[1]), **facts
            )
            spec = one.spec
            about = header.Facts(
                title=title,
                author="",
                license="",
                trigger="",
                architecture=spec.architecture,
                resolution=0,
                date="",
                blocks=spec.blocks,
                width=spec.width,
            )
            return {**header.build(about, lineage), **rank_words(layers, max(alphas.values()))}

        with task(events, "extract", len(changed)) as advance:

            def factors(name: str) -> Factors[np.ndarray]:
                nonlocal kept
                difference = _difference(one, other, name)
                matrix = difference.reshape(len(difference), -1)
                made, energy = factor_dense(matrix, layers[name].rank, 1.0, name)
                kept += energy
                advance()
                return made

            tensors = LoraTensors(layers, alphas, factors, FileFormat(dtype=dtype))
            tensors.stream(out, words(LONGEST), lambda: words(kept / total))
    return ExtractReport(
        rank=rank,
        layers=len(changed),
        energy_kept=rounded(kept / total),
        strength=rounded(np.sqrt(kept)),
        beyond_a_lora={
            name: rounded(energy / total) for name, energy in beyond.items() if energy > 0
        },
    )


def into(
    out: Path,
    checkpoint: Path,
    sources: Sequence[MergeInput],
    blend: Blend,
    target: Checkpoint,
    title: str,
    events: Events | None = None,
) -> IntoReport:
    """Write `checkpoint` with Σ wᵢ·ΔWᵢ added: in float32, cast once to the checkpoint's own dtype.

    Everything else is copied as it is. Raises InputError for a layer in 8 bits.
    """
    linears = {linear.name: linear for linear in target.spec.lora_linears}
    owner = {target.keys[name]: name for source in sources for name in source.file.layers}
    entries = target.file.entries
    lost = wanted = 0.0
    still = touched = 0

    def pieces() -> Iterator[np.ndarray]:
        nonlocal lost, wanted, still, touched
        with task(events, "into", len(owner)) as advance:
            for key in written_order(entries):
                raw = target.file.raw(key)
                if key not in owner:
                    yield raw
                    continue
                if entries[key].dtype not in FLOATS:
                    raise InputError(
                        "checkpoint",
                        checkpoint,
                        f"{key} is {entries[key].dtype}; use the bfloat16 file",
                    )
                name = owner[key]
                before = decode(raw, entries[key])
                if not np.isfinite(before).all():
                    raise InputError(
                        "checkpoint",
                        checkpoint,
                        f"{key} holds NaN or infinity; use another checkpoint",
                    )
                delta = np.zeros_like(before)
                for source, weight in zip(sources, blend.in_layer(linears[name]), strict=True):
                    if name in source.file.layers:
                        one = source.file.factors(name)
                        change = np.float32(weight * one.scale) * (one.up @ one.down)
                        delta += change.reshape(delta.shape)
                bits = encode(before + delta, entries[key].dtype)
                got = decode(bits.reshape(-1).view(np.uint8), entries[key])
                if not np.isfinite(got).all():
                    raise InputError(
                        "weights", name, "a sum beyond the checkpoint's range; use smaller weights"
                    )
                lost += _energy(got - before - delta)
                wanted += _energy(delta)
                still += int(np.count_nonzero((got == before) & (delta != 0)))
                touched += int(np.count_nonzero(delta))
                advance()
                yield bits

    histories = [target.lineage(), *(source.lineage for source in sources)]
    parts = [
        {"model": root(source.lineage), "name": source.name, "weight": weight}
        for source, weight in zip(sources, blend.weights, strict=True)
    ]
    lineage = add(
        histories, "into", name=title, checkpoint=root(histories[0]), **blend.facts(), parts=parts
    )
    kept = {key: without_author_paths(value) for key, value in target.file.metadata.items()}
    words = {**kept, **header.history_words(lineage)}
    stream_weights(out, entries, pieces(), words)
    return IntoReport(
        blend=blend,
        layers=len(owner),
        strength=rounded(np.sqrt(wanted)),
        rounding_loss=rounded(np.sqrt(lost / max(wanted, 1e-300))),
        unchanged_entries=rounded(still / max(touched, 1)),
        dtypes=sorted({entries[key].dtype for key in owner}),
    )


def _energies(
    one: Checkpoint, other: Checkpoint, events: Events | None
) -> tuple[dict[str, float], dict[str, float]]:
    """‖difference‖² of every layer, and of every other tensor, by its name; those that both
    have."""
    layers, rest = {}, {}
    norms = {row.name for row in one.spec.norms}
    with task(events, "compare", len(one.keys)) as advance:
        for name, key in one.keys.items():
            if name not in other.keys:
                continue  # a text conditioner that was saved with one of the two alone
            if one.file.entries[key].shape != other.file.entries[other.keys[name]].shape:
                raise InputError(
                    "base", other.file.path, f"{name} has another size than in {one.file.path}"
                )
            energy = _energy(_difference(one, other, name))
            if name in norms:
                rest[f"{name}.weight"] = energy
            else:
                layers[name] = energy
            advance()
    theirs = other.others
    for name, key in one.others.items():
        mine, its = one.file.entries[key], other.file.entries.get(theirs.get(name, ""))
        if its is not None and mine.shape == its.shape and {mine.dtype, its.dtype} <= set(FLOATS):
            rest[name] = _energy(_minus(one, key, other, theirs[name]))
    return layers, rest


def _difference(one: Checkpoint, other: Checkpoint, name: str) -> np.ndarray:
    """W − W_base of one layer [out, in], float32. Raises InputError when it is not finite."""
    return _minus(one, one.keys[name], other, other.keys[name])


def _minus(one: Checkpoint, key: str, other: Checkpoint, its: str) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # said below, once
        found = one.file.read(key) - other.file.read(its)
    if not np.isfinite(found).all():
        what = f"{shown(key)} differs by a value that is not finite; use another checkpoint"
        raise InputError("checkpoint", one.file.path, what)
    return found


def _energy(array: np.ndarray) -> float:
    """‖array‖² summed in fp64, without a copy of the whole."""
    pieces = (
        array.ravel()[start : start + 65536].astype(float) for start in range(0, array.size, 65536)
    )
    return float(sum(piece @ piece for piece in pieces))
