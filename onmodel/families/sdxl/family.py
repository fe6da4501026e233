"""SDXL behind the family protocol. The classes are diffusers' own, unchanged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from onmodel.families.loaded import LoadedBase
from onmodel.families.protocol import Config, Text
from onmodel.families.sdxl.latents import VaeCodec
from onmodel.families.sdxl.lora_layouts import LEVELS
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.objective import NoiseObjective
from onmodel.families.sdxl.parts import SdxlParts
from onmodel.families.sdxl.sampling import NoiseSampling
from onmodel.families.sdxl.spec import make_spec
from onmodel.families.sdxl.text import ENCODERS, ClipEncoder, SdxlTokens, read_text, stack
from onmodel.transfer import send

_Stacked = tuple[Tensor, Tensor, Tensor | None]


class SdxlDenoiser:
    """SDXL's U-Net, and the text encoders where they are trained too: all that a training step
    needs."""

    def __init__(
        self,
        unet: Any,
        vae: Config,
        schedule: NoiseSchedule,
        skip: int,
        text: Mapping[str, Any] | None = None,
    ) -> None:
        loaded = {"unet": unet, **(text or {})}
        self.configs = {name: _config(model) for name, model in loaded.items()}
        self.spec = make_spec(unet, vae, schedule, text)
        self.device, self.dtype = unet.device, unet.dtype
        self.objective, self.sampling_rules = NoiseObjective(schedule), NoiseSampling(schedule)
        self.trained, self.skip = schedule, skip
        self._unet, self._encoders = unet, text or {}

    @property
    def backbone(self) -> Any:
        return self.model()

    def model(self) -> Any:
        """The U-Net as it was made."""
        return self._unet

    def component(self, name: str | None) -> nn.Module:
        found: nn.Module = self.backbone if name is None else self._encoders[name]
        return found

    def denoise(self, latents_bchw: Tensor, t_b: Tensor, texts: Sequence[Text]) -> Tensor:
        return self._predict(latents_bchw, self.trained.step_of(t_b), self._stacked(texts))

    @contextmanager
    def sampling(self, texts: Sequence[Text]) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
        stacked = self._stacked(texts)

        def predict(x_bchw: Tensor, sigma: Tensor) -> Tensor:
            step = torch.tensor([self.trained.step_of_sigma(float(sigma))])
            return self._predict(x_bchw / (1 + sigma**2).sqrt(), step, stacked)

        yield predict

    def training(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _stacked(self, texts: Sequence[Text]) -> _Stacked:
        encoders = [self.component(name) for name in ENCODERS] if _are_tokens(texts) else []
        own = [
            text.to(self.device).encoded(encoders, self.skip)
            if isinstance(text, SdxlTokens)
            else text
            for text in texts
        ]
        rows_bsd, pooled, there_bs = stack(own, self.dtype)
        there_bs = None if there_bs is None else send(there_bs, self.device)
        return send(rows_bsd, self.device), send(pooled, self.device), there_bs

    def _predict(self, latents_bchw: Tensor, step_b: Tensor, stacked: _Stacked) -> Tensor:
        rows_bsd, pooled, there_bs = stacked
        batch, _, *sides = latents_bchw.shape
        height, width = (side * self.spec.downscale for side in sides)
        # original size, upper left corner of the crop, size in training: as of a whole picture
        ids = pooled.new_tensor([height, width, 0, 0, height, width]).expand(batch, -1)
        (prediction,) = self.backbone(
            latents_bchw.to(self.device, self.dtype),
            step_b.to(self.device),
            rows_bsd,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": ids},
            encoder_attention_mask=there_bs,
            return_dict=False,
        )
        found: Tensor = prediction.to(latents_bchw)
        return found


def _config(model: Any) -> Config:
    """The config of a module of diffusers or transformers."""
    config = model.config
    found: Config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return found


def _are_tokens(texts: Sequence[Text]) -> bool:
    return any(isinstance(text, SdxlTokens) for text in texts)


class Sdxl(LoadedBase, SdxlDenoiser):
    """A loaded SDXL. See `onmodel.families.protocol.Family` for the contract."""

    block_names = ("down_blocks.", "mid_block.", "up_blocks.")

    def __init__(
        self,
        parts: SdxlParts,
        schedule: NoiseSchedule,
        skip: int,
        dtype: torch.dtype,
        device: torch.device,
        sha256: str,
    ) -> None:
        text = {"text_encoder": parts.text_encoder, "text_encoder_2": parts.text_encoder_2}
        outlines = {name: part.outline for name, part in text.items()}
        vae = dict(parts.vae.outline.config)
        SdxlDenoiser.__init__(self, parts.unet.outline, vae, schedule, skip, outlines)
        side = ClipEncoder(text, (parts.tokenizer, parts.tokenizer_2), skip)
        LoadedBase.__init__(self, parts.unet, text, parts.vae, side, dtype, device, sha256)

    @staticmethod
    def codec(vae: Any, tiles: bool) -> VaeCodec:
        return VaeCodec(vae)

    def blocks(self, model: Any) -> Sequence[nn.Module]:
        return unet_blocks(model)

    @property
    def outlines(self) -> dict[str, Any]:
        """Component → its model without weights."""
        lazy = {"unet": self._backbone, **self._components, "vae": self._vae}
        return {name: part.outline for name, part in lazy.items()}

    def component(self, name: str | None) -> nn.Module:
        return LoadedBase.component(self, name)

    def read_text(self, tensors: Mapping[str, Tensor]) -> Text:
        return read_text(tensors)


def unet_blocks(unet: Any) -> list[nn.Module]:
    """The modules of each block, as `lora_layouts.py` counts them."""

    def block(*modules: Any) -> nn.Module:
        return nn.ModuleList([module for module in modules if module is not None])

    found = [block(unet.conv_in)]
    for level in unet.down_blocks:
        attentions = getattr(level, "attentions", None) or [None] * len(level.resnets)
        found += [block(*both) for both in zip(level.resnets, attentions, strict=True)]
        found.append(block(*(level.downsamplers or ())))
    found[-1:] = [block(unet.mid_block)]  # the innermost level is not halved
    for level in unet.up_blocks:
        attentions = getattr(level, "attentions", None) or [None] * len(level.resnets)
        rows = [[*both] for both in zip(level.resnets, attentions, strict=True)]
        rows[-1] += level.upsamplers or ()
        found += [block(*row) for row in rows]
    assert len(unet.down_blocks) == LEVELS
    return found
