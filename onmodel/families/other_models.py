"""Recognise the model of a weights file by its keys, so that an error can name it."""

import re
from collections.abc import Mapping

# Patterns over keys with "_" for ".", so that checkpoints and LoRA files of every layout look
# alike. The first row that matches names the file; whole checkpoints hold a VAE and text encoders
# too, hence those come last.
_KINDS = (
    (
        "Anima",
        r"(^|_)x_embedder_proj_1_|(^|_)blocks_\d+_(self|cross)_attn_(q|k|v|output)_proj_|(^|_)llm_adapter_",
    ),
    ("Flux", r"(^|_)double_blocks_\d+_img_attn_|(^|_)single_transformer_blocks_\d+_"),
    (
        "Lumina 2 or Z-Image",
        r"(^|_)(cap_embedder|context_refiner|noise_refiner)_|(^|_)layers_\d+_attention_(qkv|to_q)_",
    ),
    ("Qwen-Image", r"(^|_)transformer_blocks_\d+_(img|txt)_(mod|mlp)_"),
    ("Stable Diffusion 3", r"(^|_)joint_blocks_\d+_|(^|_)transformer_blocks_\d+_attn_add_q_proj_"),
    ("Wan", r"(^|_)blocks_\d+_(self|cross)_attn_[qkvo]_(weight|bias|lora|alpha|diff)"),
    ("a U-Net", r"(^|_)(input|output|down|up)_blocks_\d+_.*_attn2_to_"),
    ("a video VAE", r"^(encoder_downsamples|decoder_upsamples)_\d+_"),
    ("a VAE in another layout", r"(^|_)(encoder_down|decoder_up)(_blocks)?_0_"),
    ("a CLIP text encoder", r"(^|_)text_model_encoder_layers_0_"),
    ("a T5 text encoder", r"(^|_)encoder_block_0_layer_0_SelfAttention_"),
    ("a language model", r"(^|_)layers_0_self_attn_q_proj_"),
)
_LORA = re.compile(r"\.(lora_|lora\.|hada_|lokr_|dora_scale)")
_TEXT_WIDTH = re.compile(r"attn2_to_k_(lora_down_|lora_A_|lora_A_default_)?weight$")
_U_NETS = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 2048: "SDXL"}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What a file with these tensors is: "a LoRA for SDXL", "a Flux checkpoint", "a video VAE";
    None when unknown."""
    flat = {name.replace(".", "_"): shape for name, shape in shapes.items()}
    lines = "\n".join(flat)  # one search for all keys: a file may hold 100,000
    kind = next((kind for kind, pattern in _KINDS if re.search(pattern, lines, re.M)), None)
    if kind == "a U-Net":  # the versions differ in the width of the text that they attend to
        width = next(
            (
                shape[1]
                for name, shape in flat.items()
                if _TEXT_WIDTH.search(name) and len(shape) > 1
            ),
            0,
        )
        kind = _U_NETS.get(width, "Stable Diffusion or SDXL")
    if any(_LORA.search(name) for name in shapes):
        return f"a LoRA for {kind or 'a model that is not known here'}"
    if kind is None or kind.startswith("a "):
        return kind
    return f"an {kind} checkpoint" if kind in ("Anima", "SDXL") else f"a {kind} checkpoint"
