"""The base model of LoRA files or a checkpoint, as far as the files show it: its layers and their
sizes."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from onmodel.errors import InputError
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.families.registry import (
    DEFAULT_FAMILY,
    FAMILIES,
    count_blocks,
    lora_blocks,
    spec_of_shapes,
)
from onmodel.lora.file import layer_shapes
from onmodel.lora.kinds import as_matrix
from onmodel.lora.layouts import BLOCKS_KEY, name_table, parse_key
from onmodel.weights import WeightsFile, lora_weights

_MOST_BLOCKS = 200  # a header may say anything; what is beyond is unknown then


def spec_of_loras(
    paths: Sequence[Path], *, dora: bool = False, leave_out: Collection[str] = ()
) -> FamilySpec:
    """The model that some LoRA files were made for, as far as they tell: names by the family's
    table, sizes as found. `leave_out` as in `LoraFile`.

    Raises InputError for a file that is not a LoRA of a known family, and for a DoRA unless it is
    asked for.
    """
    blocks, keys = 0, list[str]()
    for path in paths:
        with WeightsFile(lora_weights(path), "lora") as file:
            said = file.metadata.get(BLOCKS_KEY, "")
            count = min(int(said), _MOST_BLOCKS) if re.fullmatch(r"[0-9]{1,9}", said) else 0
            blocks = max(blocks, count)
            keys += file.entries
    family = family_of(keys) or DEFAULT_FAMILY
    blocks = lora_blocks(family, keys, blocks)
    shapes = layer_shapes(paths, spec_of_shapes(family, blocks), dora, leave_out)
    spec = spec_of_shapes(family, blocks, shapes)
    _check_alike(paths, spec)
    return spec


def family_of(keys: Collection[str]) -> str | None:
    """The family that has any layer that these keys of a LoRA or checkpoint name."""
    for family in FAMILIES:
        table = name_table(spec_of_shapes(family, lora_blocks(family, keys)))
        if any(key.removesuffix(".weight") in table or parse_key(key, table) for key in keys):
            return family
    return None


def layers_of_checkpoint(file: WeightsFile) -> tuple[FamilySpec, dict[str, str]]:
    """The model in a whole transformer's file, and the key of each layer's weight, by the base's
    names.

    Raises InputError when it is none of a known family, or a layer is there twice or is no matrix.
    """
    family = family_of(file.entries) or DEFAULT_FAMILY
    blocks = count_blocks(family, file.entries)
    whole = spec_of_shapes(family, blocks)
    table, norms, convolutions = name_table(whole), set(whole.norms), set(whole.convolutions)
    keys: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for key, entry in file.entries.items():
        if (linear := table.get(key.removesuffix(".weight"))) is None:
            continue
        if linear.name in keys:
            raise InputError(
                file.field, file.path, f"holds {linear.name} twice ({key}); save one model alone"
            )
        shape = entry.shape if linear not in norms else (*entry.shape, 1)
        shape = as_matrix(shape) if linear in convolutions else shape
        if len(shape) != 2 or 0 in shape:
            raise InputError(
                file.field,
                file.path,
                f"{key} is {list(entry.shape)}, no matrix; get the file again",
            )
        keys[linear.name], shapes[linear.name] = key, (shape[0], shape[1])
    if whole.linears[0].name not in keys:
        what = f"is no whole {whole.backbone} of {whole.name}; name its checkpoint file"
        raise InputError(file.field, file.path, what)
    return spec_of_shapes(family, blocks, shapes), keys


def is_checkpoint(path: Path) -> bool:
    """Whether a file holds whole weights and not a LoRA. Raises InputError when it is no
    safetensors file."""
    if os.path.isdir(path):
        return False
    firsts = [spec_of_shapes(family, count_blocks(family, [])).linears[0] for family in FAMILIES]
    endings = tuple(f"{name}.weight" for row in firsts for name in (row.name, row.diffusers))
    with WeightsFile(path, "lora") as file:
        return any(key.endswith(endings) for key in file.entries)


def _check_alike(paths: Sequence[Path], spec: FamilySpec) -> None:
    """Raise InputError where one layer has another size in another block of a base whose blocks
    are alike."""
    if not spec.uniform:
        return
    first: dict[str, Linear] = {}
    for row in spec.lora_linears:
        other = first.setdefault(row.in_any_block, row)
        if (row.out_features, row.in_features) != (other.out_features, other.in_features):
            said = (
                f"{row.name} is {row.out_features}×{row.in_features},"
                f" {other.name} is {other.out_features}×{other.in_features}"
            )
            raise InputError(
                "lora",
                paths[0] if len(paths) == 1 else ", ".join(map(str, paths)),
                f"{said}; blocks of one base are alike, so use LoRAs of one base",
            )
