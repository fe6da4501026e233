"""Data sets of an ai-toolkit job (YAML). Source: its config/examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onmodel.curate.other_tools.options import (
    OWN_BUCKETS,
    ForeignDataset,
    ForeignSubset,
    Table,
    ToolOptions,
    as_tables,
    existing_folder,
    folder_name,
    square_side,
)
from onmodel.errors import InputError
from onmodel.paths import Names

_OF_MASKS = ("mask_min_value", "invert_mask")  # options that change nothing without masks

OPTIONS = ToolOptions(
    tool="ai-toolkit",
    captions=(
        "A caption file is one caption, its lines joined by commas; of JSON (`caption_ext: "
        "json`) the key `caption`. `[trigger]` is replaced by `trigger_word`, which is put "
        "before captions that lack it. Without a caption: `default_caption`, or the trigger "
        "alone."
    ),
    config={
        "num_repeats": "repeats",
        "shuffle_tokens": "shuffle_tags",
        "keep_tokens": "keep_tokens",
        "flip_x": "flip",
        "token_dropout_rate": "tag_dropout",
        "caption_dropout_rate": "caption_dropout",
        "is_reg": "regularisation",
        "loss_multiplier": "loss_weight",
        "buckets": "buckets",
    },
    reading={
        "caption_ext": "caption_extension",
        "default_caption": "default_caption",
        "alpha_mask": "alpha_mask",
        "trigger_word": "trigger",
    },
    special={
        "folder_path": "folder",
        "dataset_path": "folder",
        "mask_path": "masks",
        "resolution": "resolution",
    },
    harmless={
        "cache_latents": "latents are always kept",
        "cache_latents_to_disk": "latents are always kept on the disk",
        "cache_text_embeddings": "encoded captions are always kept",
        "num_workers": "nothing is read while training",
        "prefetch_factor": "nothing is read while training",
        "batch_size": "the recipe's `batch` holds for all data",
        "bucket_tolerance": OWN_BUCKETS,
        "type": "there are pictures only",
        "num_frames": "there are pictures only",
        "shrink_video_to_frames": "there are pictures only",
        "fps": "there are pictures only",
        "do_i2v": "there are pictures only",
        "do_audio": "there are pictures only",
        "audio_normalize": "there are pictures only",
        "audio_preserve_pitch": "there are pictures only",
        "auto_frame_count": "there are pictures only",
        "cache_clip_vision_to_disk": "no picture conditions the model",
        "fast_image_size": "sizes are read from the pictures",
    },
    inactive={
        "flip_y": False,
        "random_crop": False,
        "random_scale": False,
        "square_crop": False,
        "scale": 1.0,
        "augmentations": [],
        "control_path": None,
        "control_path_1": None,
        "control_path_2": None,
        "control_path_3": None,
        "inpaint_path": None,
        "unconditional_path": None,
        "clip_image_path": None,
        "prior_reg": False,
        "invert_mask": False,
        "mask_min_value": 0.0,
        "random_triggers": [],
        "controls": [],
        "poi": None,
        "extra_values": [],
        "standardize_images": False,
        "replacements": [],
        "network_weight": 1.0,
    },
)


def datasets_of_job(table: Any) -> tuple[list[Table], str] | None:
    """The data sets and the trigger word of a job, of one process of a job, or of a bare list.

    None for a file of another kind. Raises InputError for more than one process with data sets.
    """
    if isinstance(table, list) and table and all(isinstance(row, dict) for row in table):
        return as_tables("datasets", table), ""
    if not isinstance(table, dict):
        return None
    if "datasets" in table:
        return as_tables("datasets", table["datasets"]), str(table.get("trigger_word") or "")
    inner = table.get("config", {})
    processes = inner.get("process") if isinstance(inner, dict) else None
    if not isinstance(processes, list):
        return None
    found = [one for one in processes if isinstance(one, dict) and "datasets" in one]
    if len(found) > 1:
        raise InputError(
            "dataset_config",
            f"{len(found)} processes with datasets",
            "keep one of them in the file",
        )
    return datasets_of_job({**found[0]}) if found else None


def read(path: Path, tables: Sequence[Table], trigger: str) -> ForeignDataset:
    """Read the data sets of a job. Raises InputError for an option that cannot be followed."""
    notes = [
        "of an ai-toolkit job only `datasets` and `trigger_word` are read; the recipe says the rest"
    ]
    names = Names()
    subsets = []
    for i, table in enumerate(tables):
        where = f"{path.name}: datasets[{i}]"
        table = {key: value for key, value in table.items() if value is not None}
        if not table.get("mask_path"):  # its web page writes them into every job
            table = {key: value for key, value in table.items() if key not in _OF_MASKS}
        OPTIONS.check(where, table, notes)
        folder = existing_folder(
            f"{where}.folder_path", table.get("folder_path") or table.get("dataset_path"), path
        )
        base: dict[str, object] = {"shuffle_tags": False, "keep_tokens": 0, "caption": "tags"}
        if "resolution" in table:
            value = table["resolution"]
            rows = value if isinstance(value, list) else [value]
            base["resolution"] = tuple(square_side(f"{where}.resolution", one) for one in rows)
        reading: dict[str, object] = {"join_lines": ", "}  # a file is one caption
        if table.get("mask_path"):
            reading["masks"] = existing_folder(where, table["mask_path"], path)
        shown, read = OPTIONS.subset(where, {"trigger_word": trigger, **table}, base, reading)
        heldout = 0.0 if shown.regularisation else None
        subsets.append(ForeignSubset(names.free(folder_name(folder)), folder, read, shown, heldout))
    return ForeignDataset(subsets, notes)
