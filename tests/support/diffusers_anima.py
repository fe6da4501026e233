"""The real AnimaModularPipeline of diffusers on a folder's own, unchanged parts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers import transformer_cosmos


def diffusers_pipeline(base: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Guidance 3, float32. torchvision's resize of the padding mask is stood in for: there is no
    CPU build of it."""
    from diffusers import AnimaTextConditioner, AutoencoderKLQwenImage, CosmosTransformer3DModel
    from diffusers.guiders import ClassifierFreeGuidance
    from diffusers.modular_pipelines.anima import AnimaAutoBlocks
    from transformers import Qwen2Tokenizer, Qwen3Model, T5TokenizerFast

    functional = SimpleNamespace(
        resize=lambda mask, size, interpolation: F.interpolate(mask, size, mode="nearest")
    )
    stand_in = SimpleNamespace(
        functional=functional, InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", stand_in, raising=False)
    pipe = AnimaAutoBlocks().init_pipeline()
    load = {"torch_dtype": torch.float32}
    pipe.update_components(
        transformer=CosmosTransformer3DModel.from_pretrained(base / "transformer", **load),
        text_conditioner=AnimaTextConditioner.from_pretrained(base / "text_conditioner", **load),
        text_encoder=Qwen3Model.from_pretrained(base / "text_encoder", dtype=torch.float32),
        tokenizer=Qwen2Tokenizer.from_pretrained(base / "tokenizer"),
        t5_tokenizer=T5TokenizerFast.from_pretrained(base / "t5_tokenizer"),
        vae=AutoencoderKLQwenImage.from_pretrained(base / "vae", **load),
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(base / "scheduler"),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
