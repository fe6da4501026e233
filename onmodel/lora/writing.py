"""Write LoRA files: whole from memory, or layer by layer, with the same bytes. Without torch.
header.py builds the header's fields."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onmodel.errors import InputError
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.layouts import Layout, factor_shapes, has_alpha, written_keys, written_stem
from onmodel.weights import Entry, Payload, encode, finite, stream_weights, written_order


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a LoRA is written.

    `common` loads in ComfyUI and in diffusers: without alpha tensors, alpha/rank folded into up, or
    it is kohya's where both read that. `dtype` is F32, BF16 or F16. `dora`: the layers that have a
    magnitude, which stands in a layout without alphas twice, since each of the two programs reads
    it under another name.
    """

    layout: Layout = "common"
    dtype: str = "F32"
    dora: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LoraTensors:
    """The tensors of a LoRA before they are written.

    `factors(name)` is asked once for each layer, in the order of the file. `alphas` are needed
    before the factors are; only the kohya layout writes them.
    """

    layers: Mapping[str, LayerShape]
    alphas: Mapping[str, float]
    factors: Callable[[str], Factors[np.ndarray]]
    format: FileFormat = FileFormat()

    def payload(self) -> Payload:
        """All tensors in memory. Raises InputError when a value does not fit the dtype."""
        entries, owner = lora_entries(self.layers, self.format)
        return Payload(
            entries, dict(zip(written_order(entries), self._pieces(entries, owner), strict=True))
        )

    def stream(
        self,
        path: Path,
        metadata: Mapping[str, str],
        final: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """Write layer by layer, whole or not at all; `final` as in `stream_weights`. Raises
        InputError when a value does not fit the dtype."""
        entries, owner = lora_entries(self.layers, self.format)
        stream_weights(path, entries, self._pieces(entries, owner), metadata, final)

    def _pieces(
        self, entries: Mapping[str, Entry], owner: Mapping[str, tuple[str, str]]
    ) -> Iterator[np.ndarray]:
        """The bits of each tensor, in the order of the file."""
        dtype, now, made = self.format.dtype, "", dict[str, np.ndarray]()
        layout = self.format.layout
        for key in written_order(entries):
            name, role = owner[key]
            if role == "alpha":
                yield np.array(self.alphas[name], np.float32)
                continue
            if name != now:
                now, one = name, self.factors(name)
                up = one.up if has_alpha(name, layout) else one.up * np.float32(one.scale)
                made = {"down": encode(one.down, dtype), "up": encode(up, dtype)}
                if one.down.shape[1] == 1:
                    difference = np.float32(one.scale) * (one.up @ one.down)
                    made = {"diff": encode(difference[:, 0], dtype)}
                if one.magnitude is not None:
                    made["magnitude"] = encode(one.magnitude, dtype)
                if not all(finite(bits, dtype) for bits in made.values()):
                    raise InputError("dtype", dtype, f"{name} overflows; write bfloat16 or float32")
            yield made[role]


def lora_entries(
    layers: Mapping[str, LayerShape], form: FileFormat
) -> tuple[dict[str, Entry], dict[str, tuple[str, str]]]:
    """The tensors of a LoRA file, and the layer and role of each."""
    entries: dict[str, Entry] = {}
    owner: dict[str, tuple[str, str]] = {}
    for name, layer in layers.items():
        if layer.in_ == 1:  # a norm, whose change is written as it is
            key = f"{written_stem(name, form.layout)}.diff"
            entries[key], owner[key] = Entry(form.dtype, (layer.out,)), (name, "diff")
            continue
        down_key, up_key, alpha_key = written_keys(name, form.layout)
        down, up, _ = factor_shapes(name, layer)
        tensors: dict[str, tuple[str, str, tuple[int, ...]]] = {
            down_key: ("down", form.dtype, down),
            up_key: ("up", form.dtype, up),
        }
        if alpha_key:
            tensors[alpha_key] = ("alpha", "F32", ())
        if name in form.dora:
            stem = up_key.partition(".lora_")[0]
            tensors[f"{stem}.dora_scale"] = ("magnitude", form.dtype, (layer.out, 1))
            if alpha_key is None:
                tensors[f"{stem}.lora_magnitude_vector"] = ("magnitude", form.dtype, (layer.out,))
        for key, (role, dtype, shape) in tensors.items():
            entries[key], owner[key] = Entry(dtype, shape), (name, role)
    return entries, owner


def rank_words(layers: Mapping[str, LayerShape], alpha: float | None) -> dict[str, str]:
    """Rank and alpha as kohya's tools write and read them."""
    found = {layer.rank for layer in layers.values() if layer.in_ > 1}
    words = {"ss_network_dim": str(found.pop()) if len(found) == 1 else "Dynamic"}
    if alpha is not None:
        words["ss_network_alpha"] = f"{alpha:g}"
    return words
