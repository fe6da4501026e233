"""Data sets described for other trainers: sd-scripts' dataset TOML (or JSON) and its `10_name`
folders, the dataset TOML of musubi-tuner and of diffusion-pipe, the data sets of an ai-toolkit job
(YAML), and the JSON lists of OneTrainer and SimpleTuner.

Every option of such a file is followed, has no effect here (the reason is given), or is an error.
Options mean what the tool's own documentation says. Unset caption options have that tool's
defaults; unset size options have onmodel's (no picture is enlarged).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onmodel.curate.other_tools import (
    ai_toolkit,
    diffusion_pipe,
    musubi,
    onetrainer,
    sd_scripts,
    simpletuner,
)
from onmodel.curate.other_tools.options import ForeignDataset, as_table
from onmodel.errors import InputError
from onmodel.reading import read_json_of_others, read_toml, read_yaml


def read_config(path: Path) -> ForeignDataset:
    """Read a data set file of sd-scripts, musubi-tuner, diffusion-pipe, ai-toolkit, OneTrainer or
    SimpleTuner. Its folders are relative to the file's own folder.

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
    if onetrainer.is_onetrainer(table):
        return onetrainer.read(path, table)
    if simpletuner.is_simpletuner(table):
        return simpletuner.read(path, table)
    if job := ai_toolkit.datasets_of_job(table):
        return ai_toolkit.read(path, *job)
    raise InputError(
        "dataset_config",
        path.name,
        "describes no data set: neither [[datasets]] (sd-scripts, musubi-tuner), [[directory]]"
        " (diffusion-pipe) nor datasets: (ai-toolkit), nor a list of OneTrainer or SimpleTuner",
    )


def _has_subsets(table: Mapping[str, Any]) -> bool:
    """Whether data sets have subsets, as sd-scripts' have."""
    rows = table["datasets"]
    return isinstance(rows, list) and any(
        isinstance(row, dict) and "subsets" in row for row in rows
    )


def _parsed(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return read_yaml(path, "dataset_config")
    if suffix == ".json":
        return read_json_of_others(path, "dataset_config")
    return read_toml(path, "dataset_config")


TOOLS = (
    sd_scripts.OPTIONS,
    musubi.OPTIONS,
    diffusion_pipe.OPTIONS,
    ai_toolkit.OPTIONS,
    onetrainer.OPTIONS,
    simpletuner.OPTIONS,
)
READERS: Mapping[str, Callable[[Path], ForeignDataset]] = {
    "dataset_config": read_config,
    "train_data_dir": lambda folder: sd_scripts.read_numbered_folders(folder, regularisation=False),
    "reg_data_dir": lambda folder: sd_scripts.read_numbered_folders(folder, regularisation=True),
}
