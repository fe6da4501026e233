"""Names of Anima's tensors: the base's own files (ComfyUI layout) ↔ the diffusers classes.

Tables go from diffusers to the base, since the model that is being filled knows its diffusers names
for certain.
"""

import re
from collections.abc import Iterable

from onmodel.families.lora_names import LoraNames

CONDITIONER = "llm_adapter."  # before a layer of the text conditioner, in the base's own file
# ComfyUI's name of the text encoder, before a layer of Qwen3.
ENCODER = "text_encoders.qwen3_06b.transformer.model."
# SimpleTuner wraps the transformer and calls it `core`; OneTrainer's older files have
# `lora_transformer_`.
_FLAT = (
    "lora_unet_",
    "lora_transformer_",
    "lora_transformer_core_",
    "lycoris_",
    "lycoris_core_",
    "lycoris_transformer_",
    "lycoris_transformer_core_",
)
_OWN = (
    "diffusion_model.",
    "model.diffusion_model.",
    "net.",
    "transformer.",
    "base_model.model.",
    "base_model.model.diffusion_model.",
    "",
)
LORA_NAMES = (
    LoraNames(
        component=None,
        starts=("blocks.", "x_embedder.", "t_embedder.", "t_embedding_norm", "final_layer."),
        common="diffusion_model.",
        kohya="lora_unet_",
        own=_OWN,
        diffusers=(
            "transformer.",
            "transformer.core.",
            "core.",
            "base_model.model.",
            "base_model.model.core.",
            "base_model.model.transformer.",
            "base_model.model.transformer.core.",
            "",
        ),
        flat=_FLAT,
        flat_diffusers=_FLAT,
    ),
    LoraNames(
        component="text_conditioner",
        starts=(CONDITIONER,),
        common="diffusion_model.",
        kohya="lora_unet_",
        own=(*_OWN, "text_encoders.qwen3_06b."),  # the last is Forge's
        diffusers=("text_conditioner.", "base_model.model.text_conditioner."),
        flat=(*_FLAT, "lora_te_"),
        flat_diffusers=("lora_unet_text_conditioner_", "lora_text_conditioner_"),
    ),
    LoraNames(
        component="text_encoder",
        starts=(ENCODER,),
        common="",
        kohya="lora_te_",
        inside=ENCODER,
        own=("", "base_model.model."),
        diffusers=(
            "text_encoder.",
            "text_encoder.model.",
            "text_encoders.qwen3_06b.",
            "text_encoders.qwen3_06b.model.",
            "text_encoders.qwen3_06b.transformer.",
            "text_encoders.transformer.model.",
            "base_model.model.text_encoder.",
            "base_model.model.text_encoder.model.",
        ),
        flat=("lora_", "lycoris_"),
        flat_diffusers=(
            "lora_te_",
            "lora_te_model_",
            "lora_te1_",
            "lora_te1_model_",
            "lora_text_encoder_",
            "lycoris_te_",
            "lycoris_text_encoder_",
        ),
    ),
)
# More than any base has; names alone do not tell how many there are.
_MOST_CONDITIONER_BLOCKS, _MOST_ENCODER_LAYERS = 16, 64
# A block's number in every spelling of a layer's name, and not that of a block of the text
# conditioner.
_BLOCK = re.compile(r"(?!.*(?:llm_adapter|text_conditioner)).*?blocks[._](\d{1,9})[._]")
_MOST_BLOCKS = 200  # a file may say anything; what is beyond is unknown then

# Whole paths outside the blocks, diffusers → base.
_OUTER = {
    "patch_embed.proj": "x_embedder.proj.1",
    "time_embed.t_embedder": "t_embedder.1",
    "time_embed.norm": "t_embedding_norm",
    "norm_out.linear_1": "final_layer.adaln_modulation.1",
    "norm_out.linear_2": "final_layer.adaln_modulation.2",
    "proj_out": "final_layer.linear",
}
# Paths inside a block, diffusers → base.
_INNER = {
    "attn1.to_q": "self_attn.q_proj",
    "attn1.to_k": "self_attn.k_proj",
    "attn1.to_v": "self_attn.v_proj",
    "attn1.to_out.0": "self_attn.output_proj",
    "attn1.norm_q": "self_attn.q_norm",
    "attn1.norm_k": "self_attn.k_norm",
    "attn2.to_q": "cross_attn.q_proj",
    "attn2.to_k": "cross_attn.k_proj",
    "attn2.to_v": "cross_attn.v_proj",
    "attn2.to_out.0": "cross_attn.output_proj",
    "attn2.norm_q": "cross_attn.q_norm",
    "attn2.norm_k": "cross_attn.k_norm",
    "ff.net.0.proj": "mlp.layer1",
    "ff.net.2": "mlp.layer2",
    "norm1.linear_1": "adaln_modulation_self_attn.1",
    "norm1.linear_2": "adaln_modulation_self_attn.2",
    "norm2.linear_1": "adaln_modulation_cross_attn.1",
    "norm2.linear_2": "adaln_modulation_cross_attn.2",
    "norm3.linear_1": "adaln_modulation_mlp.1",
    "norm3.linear_2": "adaln_modulation_mlp.2",
}
# The VAE's residual block: diffusers → Wan's numbered Sequential.
_RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_VAE_OUTER = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    "encoder.conv_in": "encoder.conv1",
    "decoder.conv_in": "decoder.conv1",
    "encoder.norm_out": "encoder.head.0",
    "decoder.norm_out": "decoder.head.0",
    "encoder.conv_out": "encoder.head.2",
    "decoder.conv_out": "decoder.head.2",
}
_VAE_MIDDLE = {"resnets.0": "middle.0", "attentions.0": "middle.1", "resnets.1": "middle.2"}


def block_of(name: str) -> int | None:
    """The block of a layer of the transformer, from its diffusers name."""
    match = re.match(r"transformer_blocks\.(\d+)\.", name)
    return int(match[1]) if match else None


def count_blocks(keys: Iterable[str]) -> int:
    """The number of blocks in names of tensors or layers, at least 1."""
    numbers = [int(match[1]) for key in keys if (match := _BLOCK.match(key))]
    return min(1 + max(numbers, default=0), _MOST_BLOCKS)


def lora_blocks(keys: Iterable[str], said: int) -> int:
    """The number of blocks of the base of a LoRA with these keys, whose header says `said` or 0."""
    return max(said, count_blocks(keys))


def transformer_name(name: str) -> str:
    """`transformer_blocks.3.attn1.to_q.weight` → `blocks.3.self_attn.q_proj.weight`; modules and
    tensors alike."""
    block = block_of(name)
    if block is None:
        return _swap_head(name, _OUTER)
    return f"blocks.{block}." + _swap_head(
        name.removeprefix(f"transformer_blocks.{block}."), _INNER
    )


def linear_names(blocks: int) -> list[tuple[str, str]]:
    """(base, diffusers) of every linear layer of a transformer with that many blocks."""
    inner = [name for name in _INNER if not name.endswith(("norm_q", "norm_k"))]
    outer = ["patch_embed.proj", "time_embed.t_embedder.linear_1", "time_embed.t_embedder.linear_2"]
    names = [
        *outer,
        *(f"transformer_blocks.{block}.{name}" for block in range(blocks) for name in inner),
    ]
    return [
        (transformer_name(name), name)
        for name in [*names, "norm_out.linear_1", "norm_out.linear_2", "proj_out"]
    ]


def text_linear_names() -> list[tuple[str, str, str]]:
    """(component, base, diffusers) of every linear layer of text conditioners and text encoders
    that are at most so large."""
    inner = [f"{part}_attn.{side}_proj" for part in ("self", "cross") for side in "qkvo"]
    conditioner = ["in_proj", "out_proj"]
    for block in range(_MOST_CONDITIONER_BLOCKS):
        conditioner += [f"blocks.{block}.{name}" for name in (*inner, "mlp.0", "mlp.2")]
    inner = [f"self_attn.{side}_proj" for side in "qkvo"]
    encoder = []
    for layer in range(_MOST_ENCODER_LAYERS):
        encoder += [
            f"layers.{layer}.{name}"
            for name in (*inner, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
        ]
    return [
        *(("text_conditioner", CONDITIONER + name, name) for name in conditioner),
        *(("text_encoder", ENCODER + name, name) for name in encoder),
    ]


def norm_names(blocks: int) -> list[tuple[str | None, str, str]]:
    """(component, base, diffusers) of every norm with a weight, in a transformer with that many
    blocks and in text conditioners and text encoders that are at most so large."""
    own = ["time_embed.norm"]
    for block in range(blocks):
        stem = f"transformer_blocks.{block}"
        own += [f"{stem}.{part}.norm_{side}" for part in ("attn1", "attn2") for side in "qk"]
    inner = [f"{part}_attn.{side}_norm" for part in ("self", "cross") for side in "qk"]
    inner += ["norm_self_attn", "norm_cross_attn", "norm_mlp"]
    conditioner = ["norm"]
    for block in range(_MOST_CONDITIONER_BLOCKS):
        conditioner += [f"blocks.{block}.{name}" for name in inner]
    inner = ["self_attn.q_norm", "self_attn.k_norm", "input_layernorm", "post_attention_layernorm"]
    encoder = ["norm"]
    for layer in range(_MOST_ENCODER_LAYERS):
        encoder += [f"layers.{layer}.{name}" for name in inner]
    return [
        *((None, transformer_name(name), name) for name in own),
        *(("text_conditioner", CONDITIONER + name, name) for name in conditioner),
        *(("text_encoder", ENCODER + name, name) for name in encoder),
    ]


def vae_name(name: str, residual_blocks: int) -> str:
    """A diffusers name of `AutoencoderKLQwenImage` → the Wan-style one. `residual_blocks`: its
    `num_res_blocks`."""
    side, _, rest = name.partition(".")
    if match := re.match(r"mid_block\.(\w+\.\d)\.(.+)", rest):
        return f"{side}.{_VAE_MIDDLE[match[1]]}.{_residual(match[2])}"
    if match := re.match(r"down_blocks\.(\d+)\.(.+)", rest):
        return f"{side}.downsamples.{match[1]}.{_residual(match[2])}"
    if match := re.match(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", rest):
        # A stage of the decoder has residual_blocks + 1 residual blocks, then its upsampler,
        # numbered straight through.
        place = int(match[3]) if match[2] == "resnets" else residual_blocks + 1
        place += int(match[1]) * (residual_blocks + 2)
        return f"{side}.upsamples.{place}.{_residual(match[4])}"
    return _swap_head(name, _VAE_OUTER)


def _residual(rest: str) -> str:
    head, dot, tail = rest.partition(".")
    return _RESIDUAL.get(head, head) + dot + tail


def _swap_head(name: str, table: dict[str, str]) -> str:
    """Replace the beginning of a dotted name that stands in the table."""
    for old, new in table.items():
        if name == old or name.startswith(old + "."):
            return new + name.removeprefix(old)
    raise KeyError(name)
