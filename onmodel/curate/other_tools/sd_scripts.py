"""Data sets of sd-scripts (kohya): its dataset TOML or JSON, and its folders `10_name`.

Sources: docs/config_README-en.md, masked_loss_README.md and validation.md of sd-scripts.
"""

import re
from pathlib import Path

from onmodel.curate.ingest import Reading
from onmodel.curate.listing import SHOWN, left_alone, list_folder, pictures_root, repeats_of
from onmodel.curate.other_tools.options import (
    EVEN_REGULARISATION,
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
    merged_resolutions,
    square_side,
)
from onmodel.curate.provenance import NAME as PROVENANCE
from onmodel.dataset.rules import SubsetConfig
from onmodel.errors import InputError
from onmodel.paths import Names, leads_out
from onmodel.text import printable

OPTIONS = ToolOptions(
    tool="sd-scripts",
    captions=(
        "The first line of a caption file is the caption; further lines are kept as the "
        "sentence, which `caption` can show. Without a caption: `class_tokens`, or the "
        "trigger alone; nothing for regularisation pictures."
    ),
    config={
        "num_repeats": "repeats",
        "shuffle_caption": "shuffle_tags",
        "keep_tokens": "keep_tokens",
        "flip_aug": "flip",
        "caption_tag_dropout_rate": "tag_dropout",
        "caption_dropout_rate": "caption_dropout",
        "caption_dropout_every_n_epochs": "caption_dropout_every",
        "is_reg": "regularisation",
        "enable_bucket": "buckets",
        "bucket_reso_steps": "bucket_step",
    },
    reading={
        "caption_extension": "caption_extension",
        "class_tokens": "default_caption",
        "caption_prefix": "caption_prefix",
        "caption_suffix": "caption_suffix",
        "keep_tokens_separator": "keep_separator",
        "alpha_mask": "alpha_mask",
    },
    special={
        "image_dir": "folder",
        "resolution": "resolution",
        "bucket_no_upscale": "not enlarge",
        "min_bucket_reso": "bucket_sides",
        "max_bucket_reso": "bucket_sides",
        "validation_split": "heldout",
        "conditioning_data_dir": "masks",
        "skip_image_resolution": "larger_than",
    },
    harmless={
        "batch_size": "the recipe's `batch` holds for all data",
        "cache_info": "sizes and captions are read anew, so that no change is missed",
        "validation_seed": "the recipe's seed draws what is held out",
        "resize_interpolation": "pictures are scaled by Lanczos' filter",
    },
    inactive={
        "color_aug": False,
        "random_crop": False,
        "face_crop_aug_range": None,
        "random_crop_padding_percent": 0.05,
        "enable_wildcard": False,
        "secondary_separator": None,
        "caption_separator": ",",
        "metadata_file": None,
        "token_warmup_min": 1,
        "token_warmup_step": 0,
        "custom_attributes": {},
    },
)


def read(path: Path, config: Table) -> ForeignDataset:
    """Read a parsed dataset file. Raises InputError for an option that cannot be followed."""
    for key in config:
        if key not in ("general", "datasets"):
            raise InputError(
                path.name,
                brief(key),
                "unknown to onmodel; such a file holds [general] and [[datasets]]",
            )
    notes: list[str] = []
    general = as_table(f"{path.name}: general", config.get("general", {}))
    OPTIONS.check(f"{path.name}: general", general, notes)
    names = Names()
    subsets = []
    for i, dataset in enumerate(as_tables(f"{path.name}: datasets", config["datasets"])):
        where = f"{path.name}: datasets[{i}]"
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        OPTIONS.check(where, own, notes)
        for j, subset in enumerate(as_tables(f"{where}.subsets", dataset.get("subsets"))):
            inside = f"{where}.subsets[{j}]"
            OPTIONS.check(inside, subset, notes)
            subsets.append(_subset(inside, {**general, **own, **subset}, path, names, notes))
    even = any(subset.config.regularisation for subset in subsets)
    if even:
        notes.append(EVEN_REGULARISATION)
    return ForeignDataset(merged_resolutions(subsets), notes, even)


def _subset(where: str, table: Table, path: Path, names: Names, notes: list[str]) -> ForeignSubset:
    folder = existing_folder(f"{where}.image_dir", table.get("image_dir"), path)
    base: dict[str, object] = {"shuffle_tags": False, "keep_tokens": 0}
    if "resolution" in table:
        base["resolution"] = square_side(f"{where}.resolution", table["resolution"])
    table, low, high = dict(table), table.get("min_bucket_reso"), table.get("max_bucket_reso")
    table = {key: value for key, value in table.items() if value is not None}
    if "bucket_no_upscale" in table:
        base["enlarge"] = not table["bucket_no_upscale"]
    if low is not None or high is not None:
        if base.get("enlarge"):
            base["bucket_sides"] = (low or 256, high or 1024)
        else:
            add_note(
                notes,
                "min_bucket_reso and max_bucket_reso have no effect where small pictures are not"
                " enlarged",
            )
    if "num_repeats" not in table and (number := re.match(r"(\d+)_", folder.name)):
        add_note(
            notes,
            f"the {number[1]} in {folder.name} is not read, as in sd-scripts; write num_repeats ="
            f" {number[1]}",
        )
    if "enable_bucket" not in table:
        add_note(
            notes,
            "enable_bucket is not set: pictures keep their shapes in buckets; sd-scripts would cut"
            " squares",
        )
    if "bucket_no_upscale" not in table:
        add_note(
            notes,
            "bucket_no_upscale is not set: small pictures are not enlarged; sd-scripts would"
            " enlarge them",
        )
    if "caption_extension" not in table:
        add_note(
            notes,
            "caption_extension is not set: captions are read from .txt; sd-scripts would read"
            " .caption",
        )
    reading: dict[str, object] = {}
    if "conditioning_data_dir" in table:
        reading["masks"] = existing_folder(
            f"{where}.conditioning_data_dir", table["conditioning_data_dir"], path
        )
    if "skip_image_resolution" in table:
        reading["larger_than"] = square_side(
            f"{where}.skip_image_resolution", table["skip_image_resolution"]
        )
    shown, read = OPTIONS.subset(where, table, base, reading)
    heldout = table.get("validation_split")
    if heldout is not None and not (isinstance(heldout, int | float) and 0 <= heldout <= 1):
        raise InputError(f"{where}.validation_split", brief(heldout), "write a share from 0 to 1")
    if shown.regularisation:
        heldout = 0.0
    return ForeignSubset(names.free(folder_name(folder)), folder, read, shown, heldout)


def unread_repeats(folder: Path) -> str:
    """A note for a folder `10_name` that is named as a plain folder, where the number is not read;
    "" for other folders."""
    match = re.match(r"(\d+)_", folder.name)
    if match is None:
        return ""
    return (
        f"the {match[1]} in {folder.name} is not read as repeats here; write repeats = {match[1]}"
        " in `data`, or name the folder around it as train_data_dir"
    )


def read_numbered_folders(folder: Path, regularisation: bool) -> ForeignDataset:
    """Read folders named like `10_name`: 10 repeats; `name` is the default caption.

    Raises InputError when there is no such folder.
    """
    field = "reg_data_dir" if regularisation else "train_data_dir"
    folder = pictures_root(folder, field)
    listing = list_folder(folder, field)
    names = Names()
    subsets, others = [], []
    strays = [*listing.pictures, *listing.doubtful, *listing.files]
    strays = [path for path in strays if path.name != PROVENANCE]
    notes = left_alone(strays, "beside the folders")
    for path in listing.folders:
        match = repeats_of(path)
        if match is None:
            others.append(printable(path.name))
            continue
        if leads_out(path, folder):
            notes.append(f"not read, since it is a link to a folder elsewhere: {path.name}")
            continue
        repeats, name = match
        said = {"repeats": repeats, "shuffle_tags": False, "keep_tokens": 0}
        shown = SubsetConfig.model_validate(
            said | ({"regularisation": True} if regularisation else {})
        )
        words = path.name.partition("_")[2].replace("_", " ")
        reading = Reading(default_caption=words or None)
        heldout = 0.0 if regularisation else None
        subsets.append(ForeignSubset(names.free(name), path, reading, shown, heldout))
    if not subsets:
        raise InputError(
            field, folder, "holds no folder such as 10_name, whose number is that of the repeats"
        )
    if others:
        names_of_others = ", ".join(others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        notes.append(f"left alone, folders without a number of repeats: {names_of_others}{more}")
    if regularisation:
        notes.append(EVEN_REGULARISATION)
    return ForeignDataset(subsets, notes, regularisation)
