"""An Anima from its files, and what else is made of them. The parts are in parts.py, ComfyUI's
single files in single_file.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimaAutoBlocks, CosmosTransformer3DModel

from onmodel.families.anima.family import Anima
from onmodel.families.anima.parts import CLASSES, Parts, folder_source, load_tokenizer
from onmodel.families.anima.single_file import export_single_files, single_source
from onmodel.families.anima.spec import make_spec
from onmodel.families.parts import LazyPart, PartSource
from onmodel.families.protocol import BaseSettings, FamilySpec, Place

__all__ = ["empty_pipeline", "export_single_files", "load", "source", "tokenizer"]


def load(
    places: Mapping[str, Place],
    settings: BaseSettings,
    dtype: torch.dtype,
    device: str,
    sha256: str,
) -> Anima:
    """The base at the places of its components, which are read when they are used. Raises
    InputError for a component that does not fit."""
    parts = {
        name: LazyPart(source(name, place), dtype, device)
        if name in CLASSES
        else tokenizer(name, place)
        for name, place in places.items()
    }
    return Anima(Parts(**parts), dtype, torch.device(device), sha256)


def source(component: str, place: Place) -> PartSource:
    """What a component of the model is read from. Raises InputError when its file is something
    else."""
    return (single_source if place.single else folder_source)(component, place.path, place.field)


def tokenizer(component: str, place: Place) -> Any:
    """The tokenizer at a place. Raises InputError when there is none."""
    return load_tokenizer(component, place.path, place.field)


def empty_pipeline(folder: Path) -> tuple[Any, Any, FamilySpec]:
    """diffusers' pipeline with a transformer that is never initialised, that transformer, and its
    facts; of the base in `folder` only `transformer/config.json` is read."""
    config = CosmosTransformer3DModel.load_config(str(folder / "transformer"))
    with torch.device("meta"):
        transformer = CosmosTransformer3DModel.from_config(config)
    spec = make_spec(transformer)
    transformer = transformer.to_empty(device="cpu")  # memory that is never touched is never taken
    pipeline = AnimaAutoBlocks().init_pipeline()  # type: ignore[attr-defined]
    pipeline.update_components(transformer=transformer)
    return pipeline, transformer, spec
