"""The dtype of a training's large products."""

import torch

from onmodel.train.options import Options


def product_dtype(options: Options, device: str) -> torch.dtype:
    """What large products are computed in on a kind of device. Without bf16 in hardware a processor
    is slower in it."""
    fast = torch.cpu.get_capabilities()
    native = device != "cpu" or fast.get("avx512_bf16", False) or fast.get("amx_bf16", False)
    if options.precision == "bf16" or (options.precision == "auto" and native):
        return torch.bfloat16
    return torch.float32
