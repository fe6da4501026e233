"""Data sets described for other trainers: sd-scripts' dataset TOML (or JSON) and its `10_name`
folders, the dataset TOML of musubi-tuner and of diffusion-pipe, and the data sets of an ai-toolkit
job (YAML).

Every option of such a file is followed, has no effect here (the reason is given), or is an error.
Options mean what the tool's own documentation says. Unset caption options have that tool's
defaults; unset size options have onmodel's (no picture is enlarged).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onmodel.curate.other_tools import ai_toolkit, diffusion_pipe, musubi, sd_scripts
from onmodel.curate.other_tools.options import ForeignDataset, as_table
from onmodel.errors import InputError
from onmodel.reading import read_json_of_others, read_toml, read_yaml


def read_config(path: Path) -> ForeignDataset:
    """Read a data set file of sd-scripts, musubi-tuner, diffusion-pipe or ai-toolkit. Its folders
    are relative to the file's own folder.

    Raises InputError for a file of another kind, and for options that are unknown or cannot be
    followed.
    """
    table = _parsed(path)
    if isinstance(table, dict):
        as_table(path.name, table)
        if "directory" in table:
            return diffusion_pipe.read(path, table)
        if musubi.is_musubi(table):
            return musubi.read(path, table)
        if "datasets" in table and (path.suffix.lower() == ".toml" or _has_subsets(table)):
            return sd_scripts.read(path, table)
    if tool := _tool_not_read(table):
        remedy = f"is a list of data sets of {tool}, which is not read; name its folders as sources"
        raise InputError("dataset_config", path.name, remedy)
    if job := ai_toolkit.datasets_of_job(table):
        return ai_toolkit.read(path, *job)
    raise InputError(
        "dataset_config",
        path.name,
        "describes no data set: neither [[datasets]] (sd-scripts, musubi-tuner), [[directory]]"
        " (diffusion-pipe) nor datasets: (ai-toolkit)",
    )


def _has_subsets(table: Mapping[str, Any]) -> bool:
    """Whether data sets have subsets, as sd-scripts' have."""
    rows = table["datasets"]
    return isinstance(rows, list) and any(
        isinstance(row, dict) and "subsets" in row for row in rows
    )


def _tool_not_read(table: Any) -> str:
    """The tool whose list of data sets this is, where it has no reader here; "" otherwise."""
    for row in table if isinstance(table, list) else ():
        if isinstance(row, dict) and {"path", "image", "text"} <= row.keys():
            return "OneTrainer"
        if isinstance(row, dict) and {"id", "type"} <= row.keys():
            return "SimpleTuner"
    return ""


def _parsed(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return read_yaml(path, "dataset_config")
    if suffix == ".json":
        return read_json_of_others(path, "dataset_config")
    return read_toml(path, "dataset_config")


TOOLS = (sd_scripts.OPTIONS, musubi.OPTIONS, diffusion_pipe.OPTIONS, ai_toolkit.OPTIONS)
READERS: Mapping[str, Callable[[Path], ForeignDataset]] = {
    "dataset_config": read_config,
    "train_data_dir": lambda folder: sd_scripts.read_numbered_folders(folder, regularisation=False),
    "reg_data_dir": lambda folder: sd_scripts.read_numbered_folders(folder, regularisation=True),
}
