"""A tiny random Anima of the real classes, saved as a diffusers folder: for tests that need a base
but no skill."""

import math
from pathlib import Path

import torch
from diffusers import (
    AnimaTextConditioner,
    AutoencoderKLQwenImage,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from torch import nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model, T5TokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,._'@-"


def write_tiny_anima(folder: Path, blocks: int = 2) -> Path:
    """Write the folder; the same `blocks` give the same bytes."""
    torch.manual_seed(0)
    qwen, t5 = _tokenizers()
    models = {
        "transformer": CosmosTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=blocks,
            mlp_ratio=2.0,
            text_embed_dim=24,
            adaln_lora_dim=8,
            rope_scale=(1.0, 4.0, 4.0),
            extra_pos_embed_type=None,
        ),
        "text_conditioner": AnimaTextConditioner(
            source_dim=32,
            target_dim=24,
            model_dim=32,
            num_layers=1,
            num_attention_heads=2,
            target_vocab_size=len(t5),
            min_sequence_length=512,
        ),
        "text_encoder": Qwen3Model(
            Qwen3Config(
                vocab_size=len(qwen),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
            )
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            num_res_blocks=1,
            dim_mult=[1, 2, 2, 4],
            latents_mean=[0.1 * i for i in range(16)],
            latents_std=[1.0 + 0.1 * i for i in range(16)],
        ),
    }
    for name, model in models.items():
        _fill(model)
        if name == "vae":
            model.decoder.conv_out.weight.data.mul_(
                0.2
            )  # pictures within −1…1, where the clamp hides nothing
        model.to(torch.bfloat16).save_pretrained(folder / name)
    qwen.save_pretrained(folder / "tokenizer")
    t5.save_pretrained(folder / "t5_tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    return folder


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Random weights everywhere: classes start adaLN gates at zero, and those would hide every
    other fault."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0.0, 0.1)
        elif parameter.ndim == 1 or name.endswith("gamma"):
            parameter.uniform_(0.7, 1.3)
        else:
            parameter.normal_(0.0, 0.9 / math.sqrt(parameter[0].numel()))


def _tokenizers() -> tuple[Qwen2Tokenizer, T5TokenizerFast]:
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    merges = ["a i", "1 g", "Ġ s"]
    vocabulary = {
        token: i
        for i, token in enumerate([*symbols, *(merge.replace(" ", "") for merge in merges)])
    }
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -4.0) for letter in LETTERS] + [("▁smile", -5.0), ("girl", -5.0)]
    merges_pairs = [tuple(merge.split(" ")) for merge in merges]
    return (
        Qwen2Tokenizer(vocab=vocabulary, merges=merges_pairs),
        T5TokenizerFast(vocab=pieces, extra_ids=0),
    )
