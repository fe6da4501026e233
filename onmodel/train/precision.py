"""The dtype of a training's large products."""

import torch

from onmodel.devices import has_bfloat16
from onmodel.train.options import Options


def product_dtype(options: Options, device: str) -> torch.dtype:
    """What large products are computed in on a device. Without bf16 in hardware it is slower in
    it."""
    native = has_bfloat16(torch.device(device))
    if options.precision == "bf16" or (options.precision == "auto" and native):
        return torch.bfloat16
    return torch.float32
