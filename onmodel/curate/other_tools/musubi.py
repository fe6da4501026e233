"""Data sets of musubi-tuner: its dataset TOML. Source: its docs/dataset_config.md."""

from pathlib import Path

from onmodel.curate.other_tools.options import (
    ForeignDataset,
    ForeignSubset,
    Table,
    ToolOptions,
    as_table,
    as_tables,
    existing_folder,
    folder_name,
    merged_resolutions,
    square_side,
)
from onmodel.errors import InputError
from onmodel.paths import Names

_PICTURES_ONLY = "there are pictures only"

OPTIONS = ToolOptions(
    tool="musubi-tuner",
    captions=("A caption file is one caption. Without a caption: the trigger alone."),
    config={"num_repeats": "repeats", "enable_bucket": "buckets"},
    reading={"caption_extension": "caption_extension"},
    special={
        "image_directory": "folder",
        "resolution": "resolution",
        "bucket_no_upscale": "not enlarge",
    },
    harmless={
        "batch_size": "the recipe's `batch` holds for all data",
        "cache_directory": "latents are kept in the project",
        "target_frames": _PICTURES_ONLY,
        "frame_extraction": _PICTURES_ONLY,
        "frame_stride": _PICTURES_ONLY,
        "frame_sample": _PICTURES_ONLY,
        "max_frames": _PICTURES_ONLY,
        "source_fps": _PICTURES_ONLY,
    },
    inactive={
        "image_jsonl_file": None,
        "video_directory": None,
        "video_jsonl_file": None,
        "control_directory": None,
        "multiple_target": False,
    },
)


def _read_here(table: Table) -> Table:
    """The options without `image_jsonl_file`, which has an error of its own."""
    return {name: value for name, value in table.items() if name != "image_jsonl_file"}


def is_musubi(config: Table) -> bool:
    """Whether a parsed file with `datasets` is musubi-tuner's: its data sets have no subsets but
    folders of their own."""
    rows = config.get("datasets")
    own = {"image_directory", "cache_directory", *OPTIONS.inactive}
    return isinstance(rows, list) and any(
        isinstance(row, dict) and "subsets" not in row and own & row.keys() for row in rows
    )


def read(path: Path, config: Table) -> ForeignDataset:
    """Read a parsed dataset file. Raises InputError for an option that cannot be followed."""
    for key in config:
        if key not in ("general", "datasets"):
            raise InputError(path.name, key, "such a file holds [general] and [[datasets]]")
    notes: list[str] = []
    general = as_table(f"{path.name}: general", config.get("general", {}))
    OPTIONS.check(f"{path.name}: general", _read_here(general), notes)
    names = Names()
    subsets = []
    for i, own in enumerate(as_tables(f"{path.name}: datasets", config["datasets"])):
        where = f"{path.name}: datasets[{i}]"
        OPTIONS.check(where, _read_here(own), notes)
        table = {**general, **own}
        if "image_jsonl_file" in table:
            remedy = (
                "is not read; write image_directory, and name the file metadata.jsonl in that"
                " folder"
            )
            raise InputError(where, "image_jsonl_file", remedy)
        folder = existing_folder(f"{where}.image_directory", table.get("image_directory"), path)
        base: dict[str, object] = {"shuffle_tags": False, "keep_tokens": 0, "caption": "tags"}
        if "resolution" in table:
            base["resolution"] = square_side(f"{where}.resolution", table["resolution"])
        base["enlarge"] = not table.get("bucket_no_upscale", False)
        shown, reading = OPTIONS.subset(where, table, base, {"join_lines": " "})
        subsets.append(ForeignSubset(names.free(folder_name(folder)), folder, reading, shown))
    return ForeignDataset(merged_resolutions(subsets), notes)
