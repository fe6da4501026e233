"""Data sets described for other trainers, in onmodel's words: sd-scripts' dataset TOML (or JSON)
and its `10_name` folders, diffusion-pipe's dataset TOML, the data sets of an ai-toolkit job (YAML).

Every option of such a file is read, or named: as without effect here, with the reason, or as an
error. What an option means is taken from those tools' own documents; what their files leave unsaid
about captions is as in those tools, what they leave unsaid about sizes is as in onmodel (nothing is
enlarged).
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onmodel.curate.ingest import Reading
from onmodel.dataset.rules import SubsetShowing
from onmodel.errors import InputError
from onmodel.paths import Names, leads_out
from onmodel.reading import read_json_of_others, read_toml, read_yaml
from onmodel.text import printable

Table = Mapping[str, Any]
LONGEST_SHOWN, SHOWN = 80, 5  # characters of a wrong value, and options, that a message repeats
MOST_REPEATS = 100_000
LARGEST_SIDE = 8_192  # pixels; a picture of such a square is larger than what is read

_EVEN = (
    "regularisation pictures are repeated until they are about as many as the others, whatever"
    " repeats their file says"
)


@dataclass(frozen=True)
class ForeignSubset:
    """A folder, how it is read and how its pictures are shown. `heldout` is a share, None where
    nothing is said."""

    name: str
    folder: Path
    reading: Reading
    shown: SubsetShowing
    heldout: float | None = None


@dataclass(frozen=True)
class Foreign:
    """A data set as its file describes it. `notes` say what of it has no effect here.

    With `even_regularisation` the regularisation pictures are to be shown as often as the others
    together.
    """

    subsets: Sequence[ForeignSubset]
    notes: Sequence[str]
    even_regularisation: bool = False


def read_config(path: Path) -> Foreign:
    """A data set's file of sd-scripts, diffusion-pipe or ai-toolkit; folders in it are relative to
    the file's own.

    Raises InputError for a file that is none of them, and for every option that is unknown or
    cannot be followed.
    """
    table = _parsed(path)
    if isinstance(table, dict):
        _table(path.name, table)
    if isinstance(table, dict) and "directory" in table:
        return _diffusion_pipe(path, table)
    if (
        isinstance(table, dict)
        and "datasets" in table
        and path.suffix.lower() in (".toml", ".json")
    ):
        return _sd_scripts(path, table)
    found = _ai_toolkit_sets(table)
    if found:
        return _ai_toolkit(path, *found)
    raise InputError(
        "dataset_config",
        path.name,
        "describes no data set: neither [[datasets]] (sd-scripts), [[directory]] (diffusion-pipe)"
        " nor datasets: (ai-toolkit)",
    )


def read_numbered_folders(folder: Path, regularisation: bool) -> Foreign:
    """sd-scripts' folders `10_name`: ten repeats of the pictures in it; a picture without caption
    is called `name`."""
    field = "reg_data_dir" if regularisation else "train_data_dir"
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            field, folder, f"cannot be read ({error.strerror}); name a folder of folders"
        ) from error
    names = Names()
    subsets, left = [], []
    for path in paths:
        match = re.fullmatch(r"(\d+)_(.+)", path.name, re.S)
        if not match or not path.is_dir() or not 1 <= int(match[1]) <= MOST_REPEATS:
            left.append(f"its name has no number of repeats before it: {printable(path.name)}")
            continue
        if leads_out(path, folder):
            left.append(f"it is a link to a folder elsewhere: {printable(path.name)}")
            continue
        said = {"repeats": int(match[1]), "shuffle_tags": False, "keep_tokens": 0}
        shown = SubsetShowing.model_validate(
            said | ({"regularisation": True} if regularisation else {})
        )
        reading = Reading(default_caption=match[2].replace("_", " "))
        subsets.append(
            ForeignSubset(
                names.free(match[2]), path, reading, shown, 0.0 if regularisation else None
            )
        )
    if not subsets:
        raise InputError(
            field, folder, "holds no folder such as 10_name, whose number is that of the repeats"
        )
    notes = [f"not read, since {why}" for why in left]
    if regularisation:
        notes.append(_EVEN)
    return Foreign(subsets, notes, regularisation)


@dataclass(frozen=True)
class Dialect:
    """The options of a tool. `shown` and `reading`: its name → ours. `special` ones are read by
    code, as it says.

    `harmless` have no effect here, for the reason given. `inactive` cannot be followed unless they
    have this value.
    """

    tool: str
    shown: Table
    reading: Table
    special: Mapping[str, str]
    harmless: Table
    inactive: Table

    def check(self, where: str, table: Table, notes: list[str]) -> None:
        """Raise InputError for what is unknown or cannot be followed; note what has no effect."""
        known = {*self.shown, *self.reading, *self.special, *self.harmless, *self.inactive}
        unknown = [key for key in table if key not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            remedy = (
                f"did you mean {near[0]!r}?"
                if near
                else f"take it out, or see {self.tool}'s documents"
            )
            raise InputError(where, _brief(", ".join(unknown)), f"unknown to onmodel; {remedy}")
        active = [
            f"{key} = {_brief(repr(value))}"
            for key, value in table.items()
            if key in self.inactive and value not in (self.inactive[key], None, False, "", [], 0)
        ]
        if active:
            raise InputError(
                where,
                ", ".join(active[:SHOWN]),
                "onmodel does not do this; take it out to train without",
            )
        for key in table:
            if (
                key in self.harmless
                and (note := f"{key} has no effect: {self.harmless[key]}") not in notes
            ):
                notes.append(note)

    def subset(
        self, where: str, table: Table, base: Table, reading: Table
    ) -> tuple[SubsetShowing, Reading]:
        """What is said of a subset, in our words. `base` and `reading` are what special options
        said."""
        said = {self.shown[key]: value for key, value in table.items() if key in self.shown}
        read = {self.reading[key]: value for key, value in table.items() if key in self.reading}
        names = {own: key for key, own in (*self.shown.items(), *self.reading.items())}
        try:
            return SubsetShowing.model_validate({**base, **said}), Reading.model_validate(
                {**read, **reading}
            )
        except ValidationError as error:
            first = error.errors()[0]
            own = str(first["loc"][0])
            message = re.sub(r"^(Value error, |Input )", "", first["msg"])
            raise InputError(
                f"{where}.{names.get(own, own)}", _brief(first["input"]), message
            ) from error


def _parsed(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return read_yaml(path, "dataset_config")
    return (
        read_json_of_others(path, "dataset_config")
        if suffix == ".json"
        else read_toml(path, "dataset_config")
    )


def _brief(value: Any) -> str:
    """A value of a file for one line of a message."""
    text = "missing" if value is None else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(where, _brief(value), "must be a table")
    if odd := [key for key in value if not isinstance(key, str)]:
        raise InputError(where, _brief(odd[0]), "names of options are text; write it in quotes")
    return value


def _tables(where: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise InputError(where, _brief(value), "must be one or more tables")
    return [_table(f"{where}[{i}]", row) for i, row in enumerate(value)]


def _folder(where: str, value: Any, file: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError(where, _brief(value), "name the folder of the pictures")
    folder = file.parent / value
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # said when it is read, so that a plan can come before the pictures
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            where, _brief(value), f"cannot be a folder ({why}); name the folder of the pictures"
        ) from error
    return folder


def _name_of(folder: Path) -> str:
    """What a folder is called, also where the file says "." or ".."."""
    return folder.resolve().name


def _resolution(where: str, value: Any) -> int:
    """The side of a square of the area that `512`, "512", "832,1216" or [832, 1216] have."""
    parts = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, list)
        else [value]
    )
    try:
        sides = [int(part) for part in parts]
        if len(sides) not in (1, 2) or min(sides) < 1 or max(sides) > LARGEST_SIDE:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        remedy = f"write a number of pixels, at most {LARGEST_SIDE}, or [width, height]"
        raise InputError(where, _brief(value), remedy) from error
    return round(math.sqrt(sides[0] * sides[-1]))


# --- sd-scripts (docs/config_README-en.md, masked_loss_README.md, validation.md)
# --------------------------------------

_SD_SCRIPTS = Dialect(
    tool="sd-scripts",
    shown={
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


def _sd_scripts(path: Path, config: Table) -> Foreign:
    for key in config:
        if key not in ("general", "datasets"):
            raise InputError(
                path.name,
                _brief(key),
                "unknown to onmodel; such a file holds [general] and [[datasets]]",
            )
    notes: list[str] = []
    general = _table(f"{path.name}: general", config.get("general", {}))
    _SD_SCRIPTS.check(f"{path.name}: general", general, notes)
    names = Names()
    subsets = []
    for i, dataset in enumerate(_tables(f"{path.name}: datasets", config["datasets"])):
        where = f"{path.name}: datasets[{i}]"
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        _SD_SCRIPTS.check(where, own, notes)
        for j, subset in enumerate(_tables(f"{where}.subsets", dataset.get("subsets"))):
            inside = f"{where}.subsets[{j}]"
            _SD_SCRIPTS.check(inside, subset, notes)
            subsets.append(_sd_subset(inside, {**general, **own, **subset}, path, names, notes))
    even = any(subset.shown.regularisation for subset in subsets)
    if even:
        notes.append(_EVEN)
    return Foreign(_merged(subsets), notes, even)


def _sd_subset(
    where: str, table: Table, path: Path, names: Names, notes: list[str]
) -> ForeignSubset:
    folder = _folder(f"{where}.image_dir", table.get("image_dir"), path)
    base: dict[str, Any] = {"shuffle_tags": False, "keep_tokens": 0}
    if "resolution" in table:
        base["resolution"] = _resolution(f"{where}.resolution", table["resolution"])
    table, low, high = dict(table), table.get("min_bucket_reso"), table.get("max_bucket_reso")
    table = {key: value for key, value in table.items() if value is not None}
    if "bucket_no_upscale" in table:
        base["enlarge"] = not table["bucket_no_upscale"]
    if low is not None or high is not None:
        if base.get("enlarge"):
            base["bucket_sides"] = (low or 256, high or 1024)
        else:
            _note(
                notes,
                "min_bucket_reso and max_bucket_reso have no effect where small pictures are not"
                " enlarged",
            )
    if "num_repeats" not in table and (number := re.match(r"(\d+)_", folder.name)):
        _note(
            notes,
            f"the {number[1]} in {folder.name} is not read, as in sd-scripts; write num_repeats ="
            f" {number[1]}",
        )
    if "enable_bucket" not in table:
        _note(
            notes,
            "enable_bucket is not set: pictures keep their shapes in buckets; sd-scripts would cut"
            " squares",
        )
    if "bucket_no_upscale" not in table:
        _note(
            notes,
            "bucket_no_upscale is not set: small pictures are not enlarged; sd-scripts would"
            " enlarge them",
        )
    if "caption_extension" not in table:
        _note(
            notes,
            "caption_extension is not set: captions are read from .txt; sd-scripts would read"
            " .caption",
        )
    reading: dict[str, Any] = {}
    if "conditioning_data_dir" in table:
        reading["masks"] = _folder(
            f"{where}.conditioning_data_dir", table["conditioning_data_dir"], path
        )
    if "skip_image_resolution" in table:
        reading["larger_than"] = _resolution(
            f"{where}.skip_image_resolution", table["skip_image_resolution"]
        )
    shown, read = _SD_SCRIPTS.subset(where, table, base, reading)
    heldout = table.get("validation_split")
    if heldout is not None and not (isinstance(heldout, int | float) and 0 <= heldout <= 1):
        raise InputError(f"{where}.validation_split", _brief(heldout), "write a share from 0 to 1")
    if shown.regularisation:
        heldout = 0.0
    return ForeignSubset(names.free(_name_of(folder)), folder, read, shown, heldout)


def _merged(subsets: Sequence[ForeignSubset]) -> list[ForeignSubset]:
    """Subsets that differ in nothing but the resolution are one, shown at each; sd-scripts says it
    with two."""
    found: list[ForeignSubset] = []
    for subset in subsets:
        for i, other in enumerate(found):
            both = tuple(dict.fromkeys((*other.shown.resolutions, *subset.shown.resolutions)))
            shown = other.shown.model_copy(update={"resolution": both})
            same = (other.folder, other.reading, other.heldout) == (
                subset.folder,
                subset.reading,
                subset.heldout,
            )
            alike = shown == subset.shown.model_copy(update={"resolution": both})
            if same and alike and len(both) > len(other.shown.resolutions):
                found[i] = ForeignSubset(
                    other.name, other.folder, other.reading, shown, other.heldout
                )
                break
        else:
            found.append(subset)
    return found


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


# --- diffusion-pipe (examples/dataset.toml)
# ---------------------------------------------------------------------------

_OWN_BUCKETS = "onmodel makes its own buckets, a sixteenth of the resolution apart"
_DIFFUSION_PIPE = Dialect(
    tool="diffusion-pipe",
    shown={"num_repeats": "repeats", "shuffle_tags": "shuffle_tags", "enable_ar_bucket": "buckets"},
    reading={"caption_prefix": "caption_prefix"},
    special={
        "path": "folder",
        "mask_path": "masks",
        "resolutions": "resolution",
        "cache_shuffle_num": "shuffle_tags",
        "skip_empty_caption": "default_caption",
    },
    harmless={
        "min_ar": _OWN_BUCKETS,
        "max_ar": _OWN_BUCKETS,
        "num_ar_buckets": _OWN_BUCKETS,
        "ar_buckets": _OWN_BUCKETS,
        "frame_buckets": "there are pictures only",
    },
    inactive={"control_path": None, "size_buckets": None, "cache_shuffle_delimiter": ", "},
)


def _diffusion_pipe(path: Path, config: Table) -> Foreign:
    notes: list[str] = []
    top = {key: value for key, value in config.items() if key != "directory"}
    _DIFFUSION_PIPE.check(path.name, top, notes)
    names = Names()
    subsets = []
    for i, directory in enumerate(_tables(f"{path.name}: directory", config["directory"])):
        where = f"{path.name}: directory[{i}]"
        _DIFFUSION_PIPE.check(where, directory, notes)
        table = {**top, **directory}
        folder = _folder(f"{where}.path", table.get("path"), path)
        resolutions = table.get("resolutions", [])
        if not isinstance(resolutions, list) or not resolutions:
            raise InputError(
                f"{where}.resolutions",
                _brief(resolutions or None),
                "write e.g. resolutions = [1024]",
            )
        sides = tuple(
            dict.fromkeys(_resolution(f"{where}.resolutions", one) for one in resolutions)
        )
        shuffled = bool(table.get("shuffle_tags") or table.get("cache_shuffle_num"))
        base = {"shuffle_tags": shuffled, "keep_tokens": 0, "resolution": sides, "caption": "both"}
        reading: dict[str, Any] = {}
        if table.get("mask_path"):
            reading["masks"] = _folder(f"{where}.mask_path", table["mask_path"], path)
        if table.get("skip_empty_caption") is False:
            reading["default_caption"] = ""
        table = {key: value for key, value in table.items() if key != "shuffle_tags"}
        shown, read = _DIFFUSION_PIPE.subset(where, table, base, reading)
        subsets.append(ForeignSubset(names.free(_name_of(folder)), folder, read, shown))
    return Foreign(subsets, notes)


# --- ai-toolkit (config/examples)
# -------------------------------------------------------------------------------------

_AI_TOOLKIT = Dialect(
    tool="ai-toolkit",
    shown={
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
        "bucket_tolerance": _OWN_BUCKETS,
        "type": "there are pictures only",
        "num_frames": "there are pictures only",
        "shrink_video_to_frames": "there are pictures only",
        "fps": "there are pictures only",
        "do_i2v": "there are pictures only",
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


def _ai_toolkit_sets(table: Any) -> tuple[list[dict[str, Any]], str] | None:
    """The data sets and the trigger word of a job, of one process of it, or of a bare list."""
    if isinstance(table, list) and table and all(isinstance(row, dict) for row in table):
        return _tables("datasets", table), ""
    if not isinstance(table, dict):
        return None
    if "datasets" in table:
        return _tables("datasets", table["datasets"]), str(table.get("trigger_word") or "")
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
    return _ai_toolkit_sets({**found[0]}) if found else None


def _ai_toolkit(path: Path, tables: Sequence[Table], trigger: str) -> Foreign:
    notes = [
        "of an ai-toolkit job only `datasets` and `trigger_word` are read; the recipe says the rest"
    ]
    names = Names()
    subsets = []
    for i, table in enumerate(tables):
        where = f"{path.name}: datasets[{i}]"
        _AI_TOOLKIT.check(where, table, notes)
        table = {key: value for key, value in table.items() if value is not None}
        folder = _folder(
            f"{where}.folder_path", table.get("folder_path") or table.get("dataset_path"), path
        )
        base: dict[str, Any] = {"shuffle_tags": False, "keep_tokens": 0, "caption": "both"}
        if "resolution" in table:
            value = table["resolution"]
            rows = value if isinstance(value, list) else [value]
            base["resolution"] = tuple(_resolution(f"{where}.resolution", one) for one in rows)
        reading: dict[str, Any] = (
            {"masks": _folder(where, table["mask_path"], path)} if table.get("mask_path") else {}
        )
        shown, read = _AI_TOOLKIT.subset(where, {"trigger_word": trigger, **table}, base, reading)
        heldout = 0.0 if shown.regularisation else None
        subsets.append(ForeignSubset(names.free(_name_of(folder)), folder, read, shown, heldout))
    return Foreign(subsets, notes)


DIALECTS = (_SD_SCRIPTS, _DIFFUSION_PIPE, _AI_TOOLKIT)
READERS: Mapping[str, Callable[[Path], Foreign]] = {
    "dataset_config": read_config,
    "train_data_dir": lambda folder: read_numbered_folders(folder, regularisation=False),
    "reg_data_dir": lambda folder: read_numbered_folders(folder, regularisation=True),
}
