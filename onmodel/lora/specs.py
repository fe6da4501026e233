"""The base model that LoRA files or a checkpoint were made for, as far as the files tell: which
layers it has, and their sizes."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from onmodel.errors import InputError
from onmodel.families.anima.spec import spec_of_shapes
from onmodel.families.protocol import FamilySpec
from onmodel.lora.file import layer_shapes
from onmodel.lora.layouts import BLOCKS_KEY, name_table
from onmodel.weights import WeightsFile, lora_weights

# A block's number in every spelling of a layer's name, and not that of a block of the text
# conditioner.
_BLOCK = re.compile(r"(?!.*(?:llm_adapter|text_conditioner)).*?blocks[._](\d{1,9})[._]")
_MOST_BLOCKS = 200  # a file may say anything; what is beyond is unknown then


def spec_of_loras(paths: Sequence[Path], *, dora: bool = False) -> FamilySpec:
    """The model that some LoRA files were made for, as far as they tell: names by the family's
    table, sizes as found.

    Raises InputError for a file that is no LoRA of a known family, and for a DoRA unless it is
    asked for.
    """
    blocks = 1
    for path in paths:
        with WeightsFile(lora_weights(path), "lora") as file:
            said = file.metadata.get(BLOCKS_KEY, "")
            told = min(int(said), _MOST_BLOCKS) if re.fullmatch(r"[0-9]{1,9}", said) else 1
            blocks = max(blocks, told, _count_blocks(file.entries))
    shapes = layer_shapes(paths, spec_of_shapes(blocks), dora)
    _check_alike(paths, shapes)
    return spec_of_shapes(blocks, shapes)


def layers_of_checkpoint(file: WeightsFile) -> tuple[FamilySpec, dict[str, str]]:
    """The model in a whole transformer's file, and the key of each layer's weight, by the base's
    names.

    Raises InputError when it is none of a known family, or a layer is there twice or is no matrix.
    """
    blocks = _count_blocks(file.entries)
    table = name_table(spec_of_shapes(blocks))
    keys: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for key, entry in file.entries.items():
        if (linear := table.get(key.removesuffix(".weight"))) is None:
            continue
        if linear.name in keys:
            raise InputError(
                file.field, file.path, f"holds {linear.name} twice ({key}); save one model alone"
            )
        if len(entry.shape) != 2 or 0 in entry.shape:
            raise InputError(
                file.field,
                file.path,
                f"{key} is {list(entry.shape)}, no matrix; get the file again",
            )
        keys[linear.name], shapes[linear.name] = key, (entry.shape[0], entry.shape[1])
    if "x_embedder.proj.1" not in keys:
        raise InputError(
            file.field, file.path, "is no whole transformer of anima; name its checkpoint file"
        )
    return spec_of_shapes(blocks, shapes), keys


def is_checkpoint(path: Path) -> bool:
    """Whether a file holds whole weights and not a LoRA. Raises InputError when it is no
    safetensors file."""
    if os.path.isdir(path):
        return False
    with WeightsFile(path, "lora") as file:
        return any(
            key.endswith(("x_embedder.proj.1.weight", "patch_embed.proj.weight"))
            for key in file.entries
        )


def _count_blocks(keys: Iterable[str]) -> int:
    numbers = [int(match[1]) for key in keys if (match := _BLOCK.match(key))]
    return min(1 + max(numbers, default=0), _MOST_BLOCKS)


def _check_alike(paths: Sequence[Path], shapes: Mapping[str, tuple[int, int]]) -> None:
    """Raise InputError where one layer has another size in another block: no base has such
    blocks."""
    first: dict[str, tuple[str, tuple[int, int]]] = {}
    for name, shape in shapes.items():
        other, wanted = first.setdefault(re.sub(r"^blocks\.\d+\.", "", name), (name, shape))
        if shape != wanted:
            said = f"{name} is {shape[0]}×{shape[1]}, {other} is {wanted[0]}×{wanted[1]}"
            raise InputError(
                "lora",
                paths[0] if len(paths) == 1 else ", ".join(map(str, paths)),
                f"{said}; blocks of one base are alike, so use LoRAs of one base",
            )
