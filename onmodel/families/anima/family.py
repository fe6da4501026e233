"""Anima behind the family protocol: one object that encodes, denoises and decodes.

The classes are diffusers' own, unchanged. Two things are done here instead of in them: the padding
mask, which diffusers would resize through torchvision, and the stacking of texts (text.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from onmodel.families.anima import objective, sampling
from onmodel.families.anima.latents import LatentCodec
from onmodel.families.anima.lean import lean_blocks
from onmodel.families.anima.parts import Parts
from onmodel.families.anima.spec import make_spec
from onmodel.families.anima.text import TextEncoder, UnfinishedText, read_text, stack
from onmodel.families.loaded import LoadedBase
from onmodel.families.protocol import Objective, SamplingRules, Text
from onmodel.transfer import send


class AnimaDenoiser:
    """Anima's transformer, and what encodes text where that is trained too: all that a training
    step needs."""

    objective: Objective = objective
    sampling_rules: SamplingRules = sampling

    def __init__(self, transformer: Any, text: Mapping[str, Any] | None = None) -> None:
        self.spec = make_spec(transformer, text)
        loaded = {"transformer": transformer, **(text or {})}  # diffusers has no LoRA for Qwen3
        loaded.pop("text_encoder", None)
        self.configs = {name: dict(model.config) for name, model in loaded.items()}
        self.device, self.dtype = transformer.device, transformer.dtype
        self._transformer, self._encoders = transformer, text or {}

    @property
    def backbone(self) -> Any:
        model = self.model()
        if model.config.concat_padding_mask:
            # The mask of one unpadded picture is a channel of zeros; denoise appends it.
            model.register_to_config(concat_padding_mask=False)
        return model

    def model(self) -> Any:
        """The transformer as it was made."""
        return self._transformer

    def denoise(self, latents_bchw: Tensor, t_b: Tensor, texts: Sequence[Text]) -> Tensor:
        return self._velocity(latents_bchw, t_b, *self._stacked(texts))

    @contextmanager
    def sampling(self, texts: Sequence[Text]) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
        rows_bsd, bias_bs = self._stacked(texts)
        with lean_blocks(self.backbone, rows_bsd):
            yield lambda latents_bchw, t: self._velocity(
                latents_bchw, t.reshape(1), rows_bsd, bias_bs
            )

    def component(self, name: str | None) -> nn.Module:
        found: nn.Module = self.backbone if name is None else self._encoders[name]
        return found

    def _stacked(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
        rows_bsd, bias_bs = stack([self._finished(text) for text in texts], self.dtype)
        return send(rows_bsd, self.device), send(bias_bs, self.device)

    def _finished(self, text: Text) -> Text:
        """The text after the components that are trained, one at a time, so that it never depends
        on its neighbours."""
        if not isinstance(text, UnfinishedText):
            return text
        text = UnfinishedText(*(send(part, self.device) for part in text.tensors().values()))
        if not text.source.is_floating_point():
            text = text.encoded(self.component("text_encoder"))
        return text.conditioned(self.component("text_conditioner"))

    def _velocity(
        self, latents_bchw: Tensor, t_b: Tensor, rows_bsd: Tensor, bias_bs: Tensor
    ) -> Tensor:
        x_bcthw = latents_bchw.to(self.device, self.dtype).unsqueeze(2)
        mask = x_bcthw.new_zeros(x_bcthw.shape[0], 1, *x_bcthw.shape[2:])
        (velocity,) = self.backbone(
            torch.cat([x_bcthw, mask], dim=1),
            t_b.to(self.device, torch.float32),
            rows_bsd,
            attention_mask=bias_bs,
            return_dict=False,
        )
        return velocity.squeeze(2).to(latents_bchw)

    def training(self) -> AbstractContextManager[None]:
        return lean_blocks(self.backbone)


class Anima(LoadedBase, AnimaDenoiser):
    """A loaded Anima. See `onmodel.families.protocol.Family` for the contract."""

    block_names = ("transformer_blocks.",)
    codec = LatentCodec

    def __init__(self, parts: Parts, dtype: torch.dtype, device: torch.device, sha256: str) -> None:
        text = {"text_conditioner": parts.text_conditioner, "text_encoder": parts.text_encoder}
        outlines = {name: part.outline for name, part in text.items()}
        AnimaDenoiser.__init__(self, parts.transformer.outline, outlines)
        side = TextEncoder(parts)
        LoadedBase.__init__(self, parts.transformer, text, parts.vae, side, dtype, device, sha256)

    def blocks(self, model: Any) -> Sequence[nn.Module]:
        return list(model.transformer_blocks)

    @property
    def outlines(self) -> dict[str, Any]:
        """Component → its model without weights."""
        lazy = {"transformer": self._backbone, **self._components, "vae": self._vae}
        return {name: part.outline for name, part in lazy.items()}

    def component(self, name: str | None) -> nn.Module:
        return self.backbone if name is None else super().component(name)

    def read_text(self, tensors: Mapping[str, Tensor]) -> Text:
        return read_text(tensors)
