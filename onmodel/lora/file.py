"""Read LoRA files layer by layer, in every known layout.

A layer has its name in the base's own files, and its factors are float32: ΔW = alpha/r · up @ down.
Without torch, so that code which only computes on factors starts fast; tensors.py holds a whole
LoRA as torch tensors, writing.py writes files.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from onmodel.errors import InputError
from onmodel.families.other_models import recognise
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.families.registry import count_blocks, spec_of_shapes
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.kinds import LOW_RANK, SCALED, as_matrix, expand, expanded_shape
from onmodel.lora.layouts import (
    BLOCKS_KEY,
    REFUSED,
    is_difference,
    is_of_encoder,
    kernel_of,
    layer_of,
    name_table,
    parse_key,
    split_key,
)
from onmodel.lora.peft_config import (
    LARGEST,
    alpha_of,
    folder_config,
    header_config,
    parse_config,
)
from onmodel.text import shown
from onmodel.weights import (
    FLOATS,
    INTEGERS,
    PAYLOAD_KEY,
    Entry,
    WeightsFile,
    decode,
    lora_weights,
    payload_sha256,
)

WHOLE = {"lokr_w1", "lokr_w2"}  # a LoKr without a low-rank side, which has no alpha/rank
LENGTHS = ("dora_scale", "magnitude_vector")  # roles of DoRA's row lengths, which change no shape
# of a layer's plain factors; a LoHa of a few bytes may stand for any number of them
_MOST_NUMBERS = 2**28
REMAP = "onmodel lora remap FILE --from SMALLER --base BASE -o OUT"
_CORES = (".lora_mid.weight", ".hada_t1", ".hada_t2", ".lokr_t2")  # of Tucker
# Tensors that bitsandbytes (nf4, int8) and ComfyUI (fp8) keep beside a quantised weight.
_QUANTISED = re.compile(
    r"\.(absmax|nested_absmax|quant_map|nested_quant_map|quant_state\.[\w.]+|SCB|scale_weight"
    r"|weight_scale|scale_input|input_scale|comfy_quant)$"
)


class LoraFile:
    """An open LoRA for the model that `spec` describes: a safetensors file or a PEFT folder; a
    context manager.

    `layers` maps its layers, in the model's order, to the shape of their plain factors. `dora`:
    also accept DoRA, a change that depends on the base and cannot be merged. Raises InputError when
    the file is torn or its header is wrong, when a key is unknown, when it was made for another
    model or another number of blocks, when it changes nothing but the text encoder, when it is DoRA
    (unless accepted) or OFT, or when a factor does not fit. `leave_out` names what is not read of
    it: components that encode text, and "diff".
    """

    def __init__(
        self, path: Path, spec: FamilySpec, *, dora: bool = False, leave_out: Collection[str] = ()
    ) -> None:
        self.path, self.source = path, lora_weights(path)
        folder = self.source.parent
        beside = self.source.name == "adapter_model.safetensors" and (
            self.source != path or (folder / "adapter_config.json").exists()
        )
        config = folder_config(folder) if beside else None
        self._file = WeightsFile(self.source, "lora")
        try:
            self.metadata = self._file.metadata
            _refuse_other_kinds(path, self._file.entries, dora)
            found = _layers(path, self._file.entries, spec, leave_out)
            if PAYLOAD_KEY in self.metadata and self.metadata[PAYLOAD_KEY] != payload_sha256(
                self.source
            ):
                raise InputError(
                    "lora",
                    path,
                    "its tensors are not those that its header was written for; get it again",
                )
            self._component = {
                row.name: row.component or spec.backbone for row in spec.lora_linears
            }
            self._configs = {
                part: config or parse_config(path, header_config(path, self.metadata, part))
                for part in {spec.backbone, *self._component.values()}
            }
            if any(one.use_dora for one in self._configs.values()) and not dora:
                raise InputError("lora", path, "is DoRA, not a plain LoRA; export it as one")
            self._keys = {
                linear.name: found[linear.name]
                for linear in spec.lora_linears
                if linear.name in found
            }
            self.layers = {name: self._layer(name) for name in self._keys}
            check_shapes({name: layer.size for name, layer in self.layers.items()}, spec, path)
            _check_blocks(path, spec, self.metadata.get(BLOCKS_KEY))
            self.notes = _notes(self._keys, spec, self.metadata)
        except BaseException:
            self._file.__exit__(None, None, None)
            raise

    def __enter__(self) -> "LoraFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def _layer(self, name: str) -> LayerShape:
        """The shape of a layer, whose rank must be the one that its PEFT config says."""
        keys = self._keys[name]
        layer = _layer_shape(self.path, name, keys, self._file.entries)
        peft = self._configs[self._component[name]]
        said = peft.rank_of(_stem(keys["down"])) if "down" in keys else None
        if said not in (None, layer.rank) and peft.whole_alpha is not None:
            what = f"{name} has rank {layer.rank}, its config says r = {said}; correct r"
            raise InputError("lora", self.path, what)
        return layer

    def factors(self, name: str) -> Factors[np.ndarray]:
        """The factors of one layer. Raises InputError when a value or ΔW is not finite, or alpha is
        negative."""
        parts, alpha = self._parts(name), self.alpha(name)
        lengths = [parts.pop(role).reshape(-1) for role in LENGTHS if role in parts]
        down, up = (parts["down"], parts["up"]) if "down" in parts else expand(parts)
        return Factors(down, up, alpha, lengths[0] if lengths else None)

    def compact(self, name: str) -> dict[str, np.ndarray] | None:
        """The matrices of a LoHa or LoKr layer, role → float32, whose plain factors may be a
        thousand times larger, or its whole difference; with row lengths where it is DoRA. The whole
        scale is in the last of them. None for a plain layer. Raises what `factors` raises."""
        if not self.is_compact(name):
            return None
        parts = self._parts(name)
        scaled = next(role for role in SCALED if role in parts)
        parts[scaled] = parts[scaled] * np.float32(self.alpha(name) / self.layers[name].rank)
        return parts

    def is_compact(self, name: str) -> bool:
        """Whether a layer is LoHa, LoKr, or a whole difference."""
        return "down" not in self._keys[name]

    def alpha(self, name: str) -> float:
        """The alpha of a layer's plain factors. Raises InputError when it is negative or not
        finite."""
        keys, rank = self._keys[name], self.layers[name].rank
        if "diff" in keys:
            return float(rank)
        shapes = {role: self._file.entries[key].shape for role, key in keys.items()}
        inner = [shapes[role][0] for role in LOW_RANK if role in shapes]
        alpha: float | None = None
        if "alpha" not in keys:
            peft = self._configs[self._component[name]]
            alpha = peft.alpha_of(_stem(next(iter(keys.values()))), rank)
        # Where no matrix is a product no program scales by alpha; ai-toolkit writes 9999999999
        # there, which is infinite in float16.
        elif "down" in keys or inner:
            alpha = float(
                decode(self._file.raw(keys["alpha"]), self._file.entries[keys["alpha"]]).item()
            )
            if not math.isfinite(alpha):
                what = f"{name} alpha is not finite; use an earlier checkpoint"
                raise InputError("lora", self.path, what)
            if alpha < 0:
                what = f"{name} has alpha {alpha:g}; write it positive and negate its up"
                raise InputError("lora", self.path, what)
            if "down" not in keys:
                alpha = alpha / inner[-1] * rank
        return float(rank) if alpha is None else alpha

    def _parts(self, name: str) -> dict[str, np.ndarray]:
        """The matrices of a layer, role → float32. Raises InputError when one is not finite, or
        their product may exceed float32."""
        parts = {}
        for role, key in self._keys[name].items():
            if role == "alpha":
                continue
            parts[role] = decode(self._file.raw(key), self._file.entries[key])
            shape = self.layers[name].size if role == "diff" else as_matrix(parts[role].shape)
            parts[role] = parts[role].reshape(shape)
            if not np.isfinite(parts[role]).all():
                raise InputError(
                    "lora",
                    self.path,
                    f"{name} {role} holds values that are not finite; use an earlier checkpoint",
                )
        alpha = self.alpha(name)
        bound, largest = alpha / self.layers[name].rank, 0.0
        for role, matrix in parts.items():
            if role in LENGTHS:
                continue
            bound *= float(np.abs(matrix).max()) * (
                len(matrix) if role in LOW_RANK or role == "down" else 1
            )
            largest = max(largest, bound)
        if not largest < LARGEST:
            what = f"{name} at alpha {alpha:g} is too large for float32; use an earlier checkpoint"
            raise InputError("lora", self.path, what)
        return parts

    @property
    def is_dora(self) -> bool:
        """Whether a layer has row lengths, which make it DoRA."""
        return any(role in keys for keys in self._keys.values() for role in LENGTHS)

    @property
    def trained_alpha(self) -> float | None:
        """The alpha of its training: the header's, else its layers' own; None when those differ."""
        scaled = (name for name, keys in self._keys.items() if "diff" not in keys)
        return alpha_of(self.metadata, map(self.alpha, scaled))


def layer_shapes(
    paths: Sequence[Path],
    table_spec: FamilySpec,
    dora: bool = False,
    leave_out: Collection[str] = (),
) -> dict[str, tuple[int, int]]:
    """(out, in) of every layer that some LoRA files change, from the first file that has the
    layer."""
    shapes: dict[str, tuple[int, int]] = {}
    for path in paths:
        with WeightsFile(lora_weights(path), "lora") as file:
            _refuse_other_kinds(path, file.entries, dora)
            for name, keys in _layers(path, file.entries, table_spec, leave_out).items():
                shapes.setdefault(name, _layer_shape(path, name, keys, file.entries).size)
    return shapes


def check_shapes(shapes: Mapping[str, tuple[int, int]], spec: FamilySpec, source: object) -> None:
    """Raise InputError unless every layer exists in the model, has its size, and there is one at
    all."""
    linears = {linear.name: linear for linear in spec.lora_linears}
    if not shapes:
        raise InputError("lora", source, f"changes no layer of this {spec.name}; export it again")
    if all(name in linears and linears[name].component == "text_encoder" for name in shapes):
        what = (
            f"changes only the text encoder, in {len(shapes)} layers, and not the {spec.backbone}"
        )
        raise InputError("lora", source, f"{what}; use a LoRA that was trained on it")
    for name, shape in shapes.items():
        if name not in linears:
            raise InputError(
                "lora", source, f"{name} is not a layer of this {spec.name}; use a LoRA of it"
            )
        wanted = (linears[name].out_features, linears[name].in_features)
        if shape != wanted:
            said = f"{name} is {_by(shape)}, this {spec.name} has {_by(wanted)} there"
            remedy = "use a LoRA that was trained on this base"
            if 1 in (wanted[1], shape[1]):
                remedy = f"{remedy}, or onmodel lora convert FILE -o OUT --leave-out diff"
            raise InputError("lora", source, f"{said}; {remedy}")


def _layers(
    path: Path, entries: Mapping[str, Entry], spec: FamilySpec, leave_out: Collection[str]
) -> dict[str, dict[str, str]]:
    """Layer → role → key."""
    table = name_table(spec)
    text_names = name_table(spec_of_shapes(spec.name, spec.blocks)) if leave_out else {}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    unknown: list[str] = []
    for key in entries:
        if leave_out and not set(leave_out).isdisjoint(_parts_of(key, text_names)):
            continue
        parsed = parse_key(key, table)
        if parsed is None:
            unknown.append(key)
            continue
        linear, role = parsed
        if role in found[linear.name]:
            raise InputError(
                "lora", path, f"names {linear.name} twice ({shown(key)}); keep one of the two"
            )
        found[linear.name][role] = key
    # An alpha without matrices scales nothing; trainers leave some behind.
    found = {name: keys for name, keys in found.items() if keys.keys() != {"alpha"}}
    if unknown and (unknown := _without_left_alphas(unknown, spec)):
        _refuse_unknown(path, unknown, entries, spec, found)
    return found


def _parts_of(key: str, names: Mapping[str, Linear]) -> list[str]:
    """What `leave_out` calls the parts of a LoRA that a tensor belongs to; `names` are those of all
    layers that the family's models may have."""
    parts = ["diff"] if is_difference(key) else []
    linear = layer_of(_stem(key), names)
    component = linear.component if linear else "text_encoder" if is_of_encoder(key) else None
    return [*parts, component] if component else parts


def _without_left_alphas(unknown: Sequence[str], spec: FamilySpec) -> list[str]:
    """The keys without alphas that stand alone, of layers that other models of the family have."""
    names, counts = name_table(spec_of_shapes(spec.name, spec.blocks)), Counter(map(_stem, unknown))
    return [
        key
        for key in unknown
        if not (key.endswith(".alpha") and counts[_stem(key)] == 1 and layer_of(_stem(key), names))
    ]


def _layer_shape(
    path: Path, name: str, keys: Mapping[str, str], tensors: Mapping[str, Entry]
) -> LayerShape:
    """The shape of a layer with these keys (role → key). Raises InputError for what is incomplete
    or no product, or a DoRA of another kind."""
    entries = {role: tensors[key] for role, key in keys.items()}
    for role, entry in entries.items():
        if entry.dtype not in FLOATS and not (role == "alpha" and entry.dtype in INTEGERS):
            raise InputError(
                "lora", path, f"{name}: {role} is {entry.dtype}; use the bfloat16 or float32 file"
            )
    if "alpha" in entries and math.prod(entries["alpha"].shape) != 1:
        said = f"{name}: alpha has shape {list(entries['alpha'].shape)}, a layer has one"
        raise InputError("lora", path, f"{said}; export the LoRA again")
    shapes = {
        role: entry.shape
        for role, entry in entries.items()
        if role != "alpha" and role not in LENGTHS
    }
    said = " · ".join(f"{role} {list(shape)}" for role, shape in shapes.items())
    if len(shapes.get("diff", ())) == 1:
        shapes["diff"] = (*shapes["diff"], 1)
    if kernel_of(name):
        shapes = {role: as_matrix(shape) for role, shape in shapes.items()}
    if not all(len(shape) == 2 and 0 not in shape for shape in shapes.values()):
        raise InputError(
            "lora", path, f"{name}: {said} is not a product of two matrices; export the LoRA again"
        )
    try:
        out, in_, rank = expanded_shape(shapes)
    except KeyError as error:
        raise InputError(
            "lora", path, f"{name} lacks {error.args[0]}; the file is incomplete"
        ) from error
    except ValueError:
        roles = ", ".join(shapes or entries)
        said = f"{name} has {roles}, which are two kinds of change; keep one of them"
        if set(shapes) < {"down", "up"}:
            said = f"{name} has only {roles}; the file is incomplete"
        raise InputError("lora", path, said) from None
    except ArithmeticError:
        raise InputError(
            "lora", path, f"{name}: {said} is not a product; export the LoRA again"
        ) from None
    if "down" not in shapes and rank * (out + in_) > _MOST_NUMBERS:
        raise InputError(
            "lora", path, f"{name} is a plain LoRA of rank {rank}; export it with a smaller rank"
        )
    lengths = {role: entry.shape for role, entry in entries.items() if role in LENGTHS}
    for shape in lengths.values():  # LyCORIS can also keep lengths of columns, [1, in]
        if shape not in ((out,), (out, 1)):
            raise InputError(
                "lora",
                path,
                f"is DoRA over columns ({name}, {list(shape)}), which is not read; train it over"
                " rows (wd_on_output=True), or use a plain LoRA",
            )
    return LayerShape(out, in_, rank)


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]}×{shape[1]}"


def _refuse_other_kinds(path: Path, keys: Mapping[str, Entry], dora: bool) -> None:
    for key in keys:
        for part, kind in REFUSED.items():
            if part in key and not (dora and kind == "DoRA"):
                raise InputError(
                    "lora", path, f"is {kind} ({shown(key)}), not a plain LoRA; export it as one"
                )


def _refuse_unknown(
    path: Path,
    unknown: list[str],
    entries: Mapping[str, Entry],
    spec: FamilySpec,
    found: Collection[str],
) -> None:
    """Name what was not understood: quantised weights, another model, another number of blocks,
    text layers, or stray keys. `found`: layers that were understood."""
    total, backbone = len(entries), any(linear.name in found for linear in spec.linears)
    if quantised := [key for key in unknown if _QUANTISED.search(key)]:
        what = f"is quantised ({shown(quantised[0])}); use the bfloat16 or float32 file"
        raise InputError("lora", path, what)
    _refuse_what_can_be_left_out(path, unknown, spec, found)
    blocks = count_blocks(spec.name, unknown)
    if blocks > spec.blocks and (backbone or _are_layers(unknown, spec.name, blocks)):
        raise _of_other_base(path, spec, str(blocks))
    if not backbone:
        kind = recognise({key: entries[key].shape for key in unknown}) or "something unknown"
        if kind.casefold() == f"a lora for {spec.name}":
            what = f"names layers in a way that is not known here (first: {shown(unknown[0])})"
            raise InputError("lora", path, f"{what}; export it in ComfyUI's layout")
        what = f"not for {spec.name}" if "LoRA" in kind else f"not a LoRA for {spec.name}"
        first = f"none of its {total} keys names a layer of the {spec.backbone}"
        told = f"{first} (first: {shown(unknown[0])})"
        raise InputError("lora", path, f"is {kind}, {what}: {told}; use a LoRA for {spec.name}")
    if cores := [key for key in unknown if key.endswith(_CORES)]:
        what = f"has Tucker factors ({shown(cores[0])}), which are not read"
        raise InputError("lora", path, f"{what}; train it without use_tucker or use_cp")
    what = f"{len(unknown)} of {total} keys are unknown: {', '.join(map(shown, unknown[:4]))}"
    raise InputError("lora", path, f"{what}; export the LoRA alone")


def _are_layers(keys: Sequence[str], family: str, blocks: int) -> bool:
    """Whether keys name layers of a base of so many blocks."""
    names = name_table(spec_of_shapes(family, blocks))
    return any(parse_key(key, names) for key in keys)


def _refuse_what_can_be_left_out(
    path: Path, unknown: Sequence[str], spec: FamilySpec, found: Collection[str]
) -> None:
    """Name whole differences that are not read, and text layers that the model lacks, where
    nothing else is unknown; the remedy writes the rest, `found`."""
    names = name_table(spec_of_shapes(spec.name, spec.blocks))
    counts: Counter[str] = Counter()
    for key in unknown:
        parts = _parts_of(key, names)
        if not parts or (not found and not layer_of(_stem(key), names) and parts != ["diff"]):
            return
        counts[parts[0]] += 1
    said = [
        f"{count} tensors are differences of biases or of weights that are not read, such as"
        " embeddings, or weights to set"
        if part == "diff"
        else f"{count} tensors belong to a {part.replace('_', ' ')} that this model lacks"
        for part, count in counts.items()
    ]
    leave_out = " ".join(f"--leave-out {part}" for part in counts)
    remedy = f"onmodel lora convert FILE -o OUT {leave_out} writes the rest"
    if not found:
        remedy = "nothing else is in it; use another LoRA"
    raise InputError("lora", path, f"{' and '.join(said)} ({shown(unknown[0])}); {remedy}")


def _check_blocks(path: Path, spec: FamilySpec, said: str | None) -> None:
    """Raise InputError when the header names another number of blocks than the base has."""
    if said not in (None, str(spec.blocks)):
        raise _of_other_base(path, spec, said)


def _of_other_base(path: Path, spec: FamilySpec, said: str) -> InputError:
    """The error that a file was made for a base of `said` blocks, which is not that of `spec`."""
    what = f"made for a base of {shown(said, 20)} blocks, this one has {spec.blocks}"
    remedy = f"use one for {spec.blocks} blocks"
    if re.fullmatch("[0-9]{1,9}", said) and int(said) < spec.blocks:
        remedy += f", or move it: {REMAP}"
    return InputError("lora", path, f"{what}; {remedy}")


def _notes(
    names: Mapping[str, object], spec: FamilySpec, metadata: Mapping[str, str]
) -> tuple[str, ...]:
    """A LoRA of the first blocks alone may be trained so, or be for a smaller base: no tensor
    tells which."""
    present = {linear.block for linear in spec.linears if linear.name in names} - {None}
    first = present == set(range(len(present))) and 1 < len(present) < spec.blocks
    if not first or BLOCKS_KEY in metadata:
        return ()
    return (
        f"changes only blocks 0-{len(present) - 1} of {spec.blocks}; if it was made for a smaller"
        f" base, it does not fit: {REMAP} moves it",
    )


def _stem(key: str) -> str:
    """A key without what names its role."""
    return split_key(key)[0]
