"""A tiny SDXL with random weights, in diffusers' folder layout."""

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler
from transformers import CLIPTokenizer

from onmodel.families.sdxl.parts import make
from onmodel.families.sdxl.spec import PUBLISHED

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = "!abcdefghijklmnopqrstuvwxyz0123456789,.'()-"  # "!" is 0, the second one's padding
TEXT = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 3}
SIZES: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [32, 64, 64],
        "layers_per_block": 1,
        "transformer_layers_per_block": [1, 1, 2],
        "attention_head_dim": [1, 2, 2],
        "cross_attention_dim": 64,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
        "addition_time_embed_dim": 8,
        "norm_num_groups": 8,
        "sample_size": 8,
    },
    "text_encoder": {**TEXT, "num_attention_heads": 4, "projection_dim": 32},
    "text_encoder_2": {**TEXT, "num_attention_heads": 4, "projection_dim": 32},
    "vae": {
        "block_out_channels": [16, 32, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "scaling_factor": 0.5,
    },
}


def write_tiny_sdxl(folder: Path, **scheduler: Any) -> Path:
    """The base in `folder`; `scheduler` are settings of its scheduler. Equal bytes each time."""
    vocabulary = {token: place for place, token in enumerate(_tokens())}
    for name, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        made = CLIPTokenizer(vocab=vocabulary, merges=[], pad_token=pad, model_max_length=77)
        made.save_pretrained(folder / name)
    marks = {
        "vocab_size": len(vocabulary),
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
    }
    torch.manual_seed(0)
    for role, sizes in SIZES.items():
        config = {**PUBLISHED[role], **sizes, **(marks if role.startswith("text") else {})}
        make(role, config).save_pretrained(folder / role)
    settings = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        **scheduler,
    }
    EulerDiscreteScheduler(**settings).save_pretrained(folder / "scheduler")
    return folder


def _tokens() -> list[str]:
    return [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), START, END]
