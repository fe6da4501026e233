"""Data sets of OneTrainer: its concepts, a JSON list. Source: its docs and modules/util/config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onmodel.curate.other_tools.options import (
    ForeignDataset,
    ForeignSubset,
    Table,
    ToolOptions,
    add_note,
    as_table,
    as_tables,
    brief,
    existing_folder,
    folder_name,
    square_side,
)
from onmodel.errors import InputError
from onmodel.paths import Names
from onmodel.reading import read_text

_SWITCH = "belongs to a switch that is off"
_ANEW = "captions and flips are drawn anew in every epoch"
_TOLD = "does not change the training"

OPTIONS = ToolOptions(
    tool="OneTrainer",
    captions=(
        "`sample`: the caption file beside each picture; OneTrainer shows one of its lines at "
        "random, here they are one caption. `concept`: the line in `prompt_path` for all pictures. "
        "Captions in file names are not read."
    ),
    config={
        "enable_tag_shuffling": "shuffle_tags",
        "keep_tags_count": "keep_tokens",
        "loss_weight": "loss_weight",
        "enable_random_flip": "flip",
    },
    reading={},
    special={
        "path": "folder",
        "enabled": "not read where it is false",
        "type": "subset, held out where it is VALIDATION",
        "validation_concept": "held out",
        "balancing": "repeats",
        "balancing_strategy": "repeats, where it is REPEATS",
        "prompt_source": "caption_extension",
        "prompt_path": "default_caption",
        "enable_resolution_override": "resolution",
        "resolution_override": "resolution",
        "tag_dropout_enable": "tag_dropout",
        "tag_dropout_mode": "tag_dropout, where it is RANDOM",
        "tag_dropout_probability": "tag_dropout",
        "tag_delimiter": "a comma",
    },
    harmless={
        "name": "subsets are called by their folders",
        "seed": "the recipe's `seed` holds",
        "include_subdirectories": "folders are read as every source's",
        "image_variations": _ANEW,
        "text_variations": _ANEW,
        "concept_stats": _TOLD,
        "enable_crop_jitter": "a picture has one crop",
        "random_rotate_max_angle": _SWITCH,
        "random_brightness_max_strength": _SWITCH,
        "random_contrast_max_strength": _SWITCH,
        "random_saturation_max_strength": _SWITCH,
        "random_hue_max_strength": _SWITCH,
        "tag_dropout_special_tags_mode": _SWITCH,
        "tag_dropout_special_tags": _SWITCH,
        "tag_dropout_special_tags_regex": _SWITCH,
        "caps_randomize_mode": _SWITCH,
        "caps_randomize_probability": _SWITCH,
        "caps_randomize_lowercase": _SWITCH,
    },
    inactive={
        "enable_fixed_flip": False,
        "enable_random_rotate": False,
        "enable_fixed_rotate": False,
        "enable_random_brightness": False,
        "enable_fixed_brightness": False,
        "enable_random_contrast": False,
        "enable_fixed_contrast": False,
        "enable_random_saturation": False,
        "enable_fixed_saturation": False,
        "enable_random_hue": False,
        "enable_fixed_hue": False,
        "enable_random_circular_mask_shrink": False,
        "enable_random_mask_rotate_crop": False,
        "caps_randomize_enable": False,
    },
)


def is_onetrainer(table: Any) -> bool:
    """Whether a parsed file is a list of concepts."""
    rows = table if isinstance(table, list) else ()
    return any(isinstance(row, dict) and {"path", "image", "text"} <= row.keys() for row in rows)


def read(path: Path, rows: Sequence[object]) -> ForeignDataset:
    """Read parsed concepts. Raises InputError for an option that cannot be followed."""
    notes: list[str] = []
    names, subsets = Names(), []
    for i, concept in enumerate(as_tables(f"{path.name}: concepts", list(rows))):
        where = f"{path.name}: [{i}]"
        if concept.get("enabled") is False:
            told = concept.get("name") or concept.get("path")
            add_note(notes, f"{brief(told)} is not enabled and not read")
            continue
        inner = [as_table(f"{where}.{key}", concept.get(key) or {}) for key in ("image", "text")]
        outer = {key: value for key, value in concept.items() if key not in ("image", "text")}
        table = {**outer, **inner[0], **inner[1]}
        OPTIONS.check(where, table, notes)
        folder = existing_folder(f"{where}.path", table.get("path"), path)
        base: dict[str, object] = {"shuffle_tags": False, "keep_tokens": 1, "caption": "tags"}
        base["repeats"] = _repeats(where, table)
        if table.get("enable_resolution_override"):
            side = square_side(f"{where}.resolution_override", table.get("resolution_override"))
            base["resolution"] = side
        if table.get("tag_dropout_enable"):
            base["tag_dropout"] = _dropout(where, table)
        reading = {"join_lines": ", ", **_captions(where, table, path)}
        shown, read_ = OPTIONS.subset(where, table, base, reading)
        heldout = _heldout(where, table)
        subsets.append(
            ForeignSubset(names.free(folder_name(folder)), folder, read_, shown, heldout)
        )
    if not subsets:
        raise InputError("dataset_config", path.name, "has no concept that is enabled")
    return ForeignDataset(subsets, notes)


def _repeats(where: str, table: Table) -> int:
    value, strategy = table.get("balancing", 1.0), table.get("balancing_strategy", "REPEATS")
    if strategy != "REPEATS":
        remedy = "write REPEATS, and how often a picture is shown as balancing"
        raise InputError(f"{where}.balancing_strategy", brief(strategy), remedy)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value % 1:
        remedy = "write a whole number of repeats, 1 or more"
        raise InputError(f"{where}.balancing", brief(value), remedy)
    return int(value)


def _dropout(where: str, table: Table) -> object:
    if table.get("tag_dropout_mode", "FULL") != "RANDOM":
        remedy = "write RANDOM, where each tag is dropped by itself, or turn tag dropout off"
        raise InputError(f"{where}.tag_dropout_mode", brief(table.get("tag_dropout_mode")), remedy)
    return table.get("tag_dropout_probability", 0.0)


def _heldout(where: str, table: Table) -> float | None:
    kind = table.get("type", "STANDARD")
    if kind == "VALIDATION" or table.get("validation_concept"):
        return 1.0
    if kind != "STANDARD":
        remedy = "write STANDARD or VALIDATION"
        raise InputError(f"{where}.type", brief(kind), remedy)
    return None


def _captions(where: str, table: Table, path: Path) -> dict[str, object]:
    """How captions are read."""
    if table.get("tag_delimiter", ",").strip() != ",":
        remedy = "write tags with commas between them"
        raise InputError(f"{where}.tag_delimiter", brief(table["tag_delimiter"]), remedy)
    source = table.get("prompt_source", "sample")
    if source == "concept":
        file = existing_folder(f"{where}.prompt_path", table.get("prompt_path"), path)
        lines = [line for line in read_text(file, f"{where}.prompt_path").splitlines() if line]
        if len(lines) != 1:
            remedy = "holds several captions of which one is shown at random; keep one line"
            raise InputError(f"{where}.prompt_path", file.name, remedy)
        return {"default_only": True, "default_caption": lines[0]}
    if source != "sample":
        remedy = "is not read; write caption files beside the pictures and sample here"
        raise InputError(f"{where}.prompt_source", brief(source), remedy)
    return {}
