"""An SDXL from its files, and what else is made of them. The parts are in parts.py, single files in
single_file.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

from onmodel.families.parts import LazyPart, PartSource, read_config
from onmodel.families.protocol import BaseSettings, FamilySpec, Place
from onmodel.families.sdxl.family import Sdxl
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.parts import CLASSES, SdxlParts, empty, folder_source, load_tokenizer
from onmodel.families.sdxl.single_file import export_single_files, schedule_in, single_source
from onmodel.families.sdxl.spec import PUBLISHED, SCHEDULER_FILE, Settings, make_spec, schedule_of
from onmodel.families.sdxl.text import ENCODERS

__all__ = ["empty_pipeline", "export_single_files", "load", "source", "tokenizer"]


def load(
    places: Mapping[str, Place],
    settings: BaseSettings,
    dtype: torch.dtype,
    device: str,
    sha256: str,
) -> Sdxl:
    """The base at the places of its components, which are read when they are used. Raises
    InputError for a component that does not fit."""
    assert isinstance(settings, Settings)
    parts = {
        name: LazyPart(source(name, place), dtype, device)
        if name in CLASSES
        else tokenizer(name, place)
        for name, place in places.items()
    }
    schedule = trained_schedule(places["unet"], settings)
    return Sdxl(
        SdxlParts(**parts), schedule, settings.clip_skip, dtype, torch.device(device), sha256
    )


def trained_schedule(unet: Place, settings: Settings) -> NoiseSchedule:
    """The schedule that the base was trained with: what the settings say, else what its files
    say."""
    if unet.single:
        found = schedule_in(unet.path, unet.field)
    else:
        folder = unet.path.parent / "scheduler"
        there = (folder / SCHEDULER_FILE).is_file()
        config = read_config(folder, unet.field, SCHEDULER_FILE) if there else {}
        found = schedule_of(config)
    prediction = found.prediction if settings.prediction == "auto" else settings.prediction
    zero_snr = found.zero_snr if settings.zero_snr is None else settings.zero_snr
    return NoiseSchedule(prediction, zero_snr)


def source(component: str, place: Place) -> PartSource:
    """What a component of the model is read from. Raises InputError when its file is something
    else."""
    return (single_source if place.single else folder_source)(component, place.path, place.field)


def tokenizer(component: str, place: Place) -> Any:
    """The tokenizer at a place. Raises InputError when there is none."""
    return load_tokenizer(component, place.path, place.field)


def empty_pipeline(folder: Path) -> tuple[Any, dict[str, Any], FamilySpec]:
    """diffusers' pipeline with a U-Net and text encoders that are never initialised, these models
    by component, and their facts; of the base in `folder` only configs are read."""
    names = ("unet", *ENCODERS)
    models = {name: empty(name, read_config(folder / name, "folder")) for name in names}
    text = {name: models[name] for name in ENCODERS}
    # No layer of the VAE is adapted.
    spec = make_spec(models["unet"], PUBLISHED["vae"], NoiseSchedule(), text)
    # Memory that is never touched is never taken.
    models = {name: model.to_empty(device="cpu") for name, model in models.items()}
    nothing: Any = None
    pipeline = StableDiffusionXLPipeline(
        vae=nothing,
        tokenizer=nothing,
        tokenizer_2=nothing,
        scheduler=EulerDiscreteScheduler(),
        **models,
    )
    return pipeline, models, spec
