"""Data sets of SimpleTuner: its multidatabackend.json. Source: its documentation/DATALOADER.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onmodel.curate.other_tools.options import (
    OWN_BUCKETS,
    ForeignDataset,
    ForeignSubset,
    Table,
    ToolOptions,
    add_note,
    as_tables,
    brief,
    existing_folder,
    folder_name,
    square_side,
)
from onmodel.errors import InputError
from onmodel.paths import Names

_KEPT = "latents and captions are kept in the project"
_ORDER = "every picture is shown once an epoch and repeat, in an order of its own"

OPTIONS = ToolOptions(
    tool="SimpleTuner",
    captions=(
        "`textfile`: a caption file is one caption. `instanceprompt`, or `only_instance_prompt`: "
        "`instance_prompt` alone; `prepend_instance_prompt` puts it before every caption. Captions "
        "in file names and in parquet tables are not read."
    ),
    config={"is_regularisation_data": "regularisation", "is_regularization_data": "regularisation"},
    reading={},
    special={
        "instance_data_dir": "folder",
        "repeats": "repeats, which are one more: SimpleTuner counts from 0",
        "resolution": "resolution",
        "resolution_type": "resolution, in pixels or megapixels",
        "caption_strategy": "caption_extension",
        "instance_prompt": "default_caption",
        "only_instance_prompt": "default_caption",
        "prepend_instance_prompt": "caption_prefix",
        "disabled": "not read",
        "disable": "not read",
    },
    harmless={
        "id": "subsets are called by their folders",
        "dataset_type": "there are pictures only",
        "type": "pictures lie in folders",
        "crop": OWN_BUCKETS,
        "crop_style": OWN_BUCKETS,
        "crop_aspect": OWN_BUCKETS,
        "crop_aspect_buckets": OWN_BUCKETS,
        "aspect_bucket_rounding": OWN_BUCKETS,
        "minimum_image_size": "no picture is left out for its size",
        "maximum_image_size": "pictures are made smaller once, from the original",
        "target_downsample_size": "pictures are made smaller once, from the original",
        "minimum_aspect_ratio": "no picture is left out for its shape",
        "maximum_aspect_ratio": "no picture is left out for its shape",
        "cache_dir": _KEPT,
        "cache_dir_vae": _KEPT,
        "cache_file_suffix": _KEPT,
        "vae_cache_clear_each_epoch": _KEPT,
        "vae_cache_ondemand": _KEPT,
        "hash_filenames": _KEPT,
        "write_batch_size": _KEPT,
        "read_batch_size": _KEPT,
        "preserve_data_backend_cache": _KEPT,
        "metadata_backend": _KEPT,
        "skip_file_discovery": _KEPT,
        "text_embeds": _KEPT,
        "image_embeds": _KEPT,
        "probability": _ORDER,
        "default": "captions are encoded once",
    },
    inactive={
        "caption_filter_list": None,
        "conditioning": None,
        "conditioning_data": None,
        "conditioning_type": None,
        "slider_strength": None,
        "start_epoch": 1,
        "start_step": 0,
        "ignore_epochs": False,
    },
)
_NO_PICTURES = ("text_embeds", "image_embeds", "conditioning_image_embeds")


def is_simpletuner(table: Any) -> bool:
    """Whether a parsed file is a list of SimpleTuner's."""
    rows = table if isinstance(table, list) else ()
    return any(isinstance(row, dict) and {"id", "type"} <= row.keys() for row in rows)


def read(path: Path, rows: Sequence[object]) -> ForeignDataset:
    """Read a parsed list. Raises InputError for an option that cannot be followed."""
    notes: list[str] = []
    names, subsets = Names(), []
    for i, table in enumerate(as_tables(f"{path.name}: datasets", list(rows))):
        where = f"{path.name}: [{i}]"
        kind = table.get("dataset_type", "image")
        if kind in _NO_PICTURES:
            continue
        if table.get("disabled") or table.get("disable"):
            add_note(notes, f"{brief(table.get('id'))} is disabled and not read")
            continue
        if kind != "image":
            raise InputError(f"{where}.dataset_type", brief(kind), "there are pictures only")
        if table.get("type", "local") != "local":
            remedy = "is not read; get the pictures into a folder and write type = local"
            raise InputError(f"{where}.type", brief(table["type"]), remedy)
        OPTIONS.check(where, table, notes)
        folder = existing_folder(f"{where}.instance_data_dir", table.get("instance_data_dir"), path)
        base: dict[str, object] = {"shuffle_tags": False, "keep_tokens": 0, "caption": "tags"}
        base["repeats"] = _repeats(where, table.get("repeats", 0))
        if "resolution" in table:
            base["resolution"] = _side(where, table)
        reading = {"join_lines": " ", **_captions(where, table)}
        shown, read_ = OPTIONS.subset(where, table, base, reading)
        heldout = 0.0 if shown.regularisation else None
        subsets.append(
            ForeignSubset(names.free(folder_name(folder)), folder, read_, shown, heldout)
        )
    if not subsets:
        raise InputError("dataset_config", path.name, "has no data set of pictures that is enabled")
    return ForeignDataset(subsets, notes)


def _repeats(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{where}.repeats", brief(value), "write a whole number; 0 shows once")
    return value + 1


def _side(where: str, table: Table) -> int:
    """The side in pixels of a square with the area that is asked for."""
    value, kind = table["resolution"], table.get("resolution_type", "pixel_area")
    if kind == "area":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 64:
            remedy = "write megapixels, e.g. 1.0, or resolution_type = pixel_area"
            raise InputError(f"{where}.resolution", brief(value), remedy)
        return round(1024 * float(value) ** 0.5)
    if kind not in ("pixel", "pixel_area"):
        remedy = "write pixel_area, pixel or area"
        raise InputError(f"{where}.resolution_type", brief(kind), remedy)
    return square_side(f"{where}.resolution", value)


def _captions(where: str, table: Table) -> dict[str, object]:
    """How captions are read."""
    strategy, prompt = table.get("caption_strategy", "textfile"), table.get("instance_prompt") or ""
    if strategy == "instanceprompt" or table.get("only_instance_prompt"):
        if not prompt:
            raise InputError(f"{where}.instance_prompt", "missing", "write the prompt")
        return {"default_only": True, "default_caption": prompt}
    if strategy != "textfile":
        remedy = "is not read; write caption files beside the pictures and textfile here"
        raise InputError(f"{where}.caption_strategy", brief(strategy), remedy)
    if table.get("prepend_instance_prompt") and prompt:
        return {"caption_prefix": prompt, "prefix_stays": True}
    return {}
