"""Data sets of diffusion-pipe: its dataset TOML. Source: its examples/dataset.toml."""

from pathlib import Path

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

OPTIONS = ToolOptions(
    tool="diffusion-pipe",
    captions=(
        "A caption file is one caption, `captions.json` goes before it, and the tags of "
        "`caption_prefix` stay in front of shuffled ones. Of several captions of a picture "
        "the first is used. Without a caption: the trigger alone."
    ),
    config={
        "num_repeats": "repeats",
        "shuffle_tags": "shuffle_tags",
        "enable_ar_bucket": "buckets",
    },
    reading={"caption_prefix": "caption_prefix"},
    special={
        "path": "folder",
        "mask_path": "masks",
        "resolutions": "resolution",
        "cache_shuffle_num": "shuffle_tags",
        "skip_empty_caption": "default_caption",
    },
    harmless={
        "min_ar": OWN_BUCKETS,
        "max_ar": OWN_BUCKETS,
        "num_ar_buckets": OWN_BUCKETS,
        "ar_buckets": OWN_BUCKETS,
        "frame_buckets": "there are pictures only",
    },
    inactive={
        "control_path": None,
        "size_buckets": None,
        "cache_shuffle_delimiter": ", ",
        "default_mask_file": None,
        "shuffle_metadata": False,
    },
)


def read(path: Path, config: Table) -> ForeignDataset:
    """Read a parsed dataset file. Raises InputError for an option that cannot be followed."""
    notes: list[str] = []
    top = {key: value for key, value in config.items() if key != "directory"}
    OPTIONS.check(path.name, top, notes)
    names = Names()
    subsets = []
    for i, directory in enumerate(as_tables(f"{path.name}: directory", config["directory"])):
        where = f"{path.name}: directory[{i}]"
        OPTIONS.check(where, directory, notes)
        table = {**top, **directory}
        folder = existing_folder(f"{where}.path", table.get("path"), path)
        resolutions = table.get("resolutions", [])
        if not isinstance(resolutions, list) or not resolutions:
            raise InputError(
                f"{where}.resolutions",
                brief(resolutions or None),
                "write e.g. resolutions = [1024]",
            )
        sides = tuple(
            dict.fromkeys(square_side(f"{where}.resolutions", one) for one in resolutions)
        )
        shuffled = bool(table.get("shuffle_tags") or table.get("cache_shuffle_num"))
        base = {"shuffle_tags": shuffled, "keep_tokens": 0, "resolution": sides, "caption": "tags"}
        # A file is one caption, captions.json goes before it, and the prefix is put before what is
        # shuffled.
        reading: dict[str, object] = {"join_lines": " ", "table_first": True, "prefix_stays": True}
        if table.get("mask_path"):
            reading["masks"] = existing_folder(f"{where}.mask_path", table["mask_path"], path)
        if table.get("skip_empty_caption") is False:
            reading["default_caption"] = ""
        table = {key: value for key, value in table.items() if key != "shuffle_tags"}
        prefix = table.get("caption_prefix")
        if isinstance(prefix, str) and prefix.strip() and not prefix.rstrip().endswith(","):
            add_note(notes, "a comma is put after caption_prefix; diffusion-pipe puts none")
        shown, read = OPTIONS.subset(where, table, base, reading)
        subsets.append(ForeignSubset(names.free(folder_name(folder)), folder, read, shown))
    return ForeignDataset(subsets, notes)
