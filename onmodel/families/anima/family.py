"""Anima behind the family protocol: one object that encodes, denoises and decodes.

The classes are diffusers' own, unchanged. Two things are done here instead of in them: the padding
mask, which diffusers would resize through torchvision, and the stacking of texts (text.py).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from onmodel.errors import InputError
from onmodel.families.anima import objective, sampling
from onmodel.families.anima.latents import LatentCodec
from onmodel.families.anima.lean import lean_blocks
from onmodel.families.anima.parts import Parts
from onmodel.families.anima.spec import make_spec
from onmodel.families.anima.text import TextEncoder, UnfinishedText, read_text, stack
from onmodel.families.held import BlockSwap, hold
from onmodel.families.modes import Modes
from onmodel.families.protocol import EmptyText, Linear, Objective, SamplingRules, Text
from onmodel.freed_memory import return_freed_memory
from onmodel.transfer import send


class AnimaDenoiser:
    """Anima's transformer, and what encodes text where that is trained too: all that a training
    step needs."""

    objective: Objective = objective
    sampling_rules: SamplingRules = sampling

    def __init__(self, transformer: Any, text: Mapping[str, Any] | None = None) -> None:
        self.config, self.spec = dict(transformer.config), make_spec(transformer, text)
        self.device, self.dtype = transformer.device, transformer.dtype
        self._transformer, self._encoders = transformer, text or {}

    @property
    def backbone(self) -> Any:
        model = self._model()
        if model.config.concat_padding_mask:
            # The mask of one unpadded picture is a channel of zeros; denoise appends it.
            model.register_to_config(concat_padding_mask=False)
        return model

    def _model(self) -> Any:
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
        text = text.to(self.device)
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


class Anima(AnimaDenoiser):
    """A loaded Anima. See `onmodel.families.protocol.Family` for the contract."""

    def __init__(self, parts: Parts, dtype: torch.dtype, device: torch.device, sha256: str) -> None:
        text = {"text_conditioner": parts.text_conditioner, "text_encoder": parts.text_encoder}
        outlines = {name: part.outline for name, part in text.items()}
        super().__init__(parts.transformer.outline, outlines)
        self.device, self.dtype, self.sha256 = device, dtype, sha256
        self._parts, self._components = parts, text
        self._text = TextEncoder(parts)
        self._codec: LatentCodec | None = None
        self._modes, self.quantization_error = Modes(), 0.0
        self._swap: BlockSwap | None = None
        self._changed: set[str] = set()  # layers, by contexts of `changed`

    def _model(self) -> Any:
        part, modes = self._parts.transformer, self._modes
        is_read, model = part.is_read, part.model
        if not is_read and (modes.swap_blocks or modes.quantize):
            self._swap, self.quantization_error = hold(model.transformer_blocks, modes, self.device)
        return model

    @property
    def outlines(self) -> dict[str, Any]:
        """Component → its model without weights."""
        parts = self._parts
        lazy = {"transformer": parts.transformer, **self._components, "vae": parts.vae}
        return {name: part.outline for name, part in lazy.items()}

    @contextmanager
    def computing(self, modes: Modes) -> Iterator[None]:
        before = self._modes
        self._use(modes)
        try:
            yield
        finally:
            self._use(before)

    def _use(self, modes: Modes) -> None:
        """Compute so from now on. What computes otherwise is dropped, to be read again."""
        before, self._modes = self._modes, modes
        if modes.vae_tiles != before.vae_tiles:
            self._codec = None
            self._parts.vae.release()
        if (modes.swap_blocks, modes.quantize) != (before.swap_blocks, before.quantize):
            held = bool(modes.swap_blocks or modes.quantize)
            self._parts.transformer.on_host = ("transformer_blocks.",) if held else ()
            self._parts.transformer.release()
            self._swap, self.quantization_error = None, 0.0
            return_freed_memory()

    def encode_text(self, captions: Sequence[str]) -> list[Text]:
        return list(self._text.encode(captions))

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[Text]:
        return list(self._text.encode_prompts(prompts, empty_text))

    def component(self, name: str | None) -> nn.Module:
        found: nn.Module = self.backbone if name is None else self._components[name].model
        return found

    def training_text(self, components: Collection[str]) -> AbstractContextManager[None]:
        return self._text.training(components)

    def release(self) -> None:
        self._text.release()
        self._codec = None
        self._parts.vae.release()
        return_freed_memory()

    @contextmanager
    def changed(self, linears: Sequence[Linear]) -> Iterator[Mapping[str, Tensor]]:
        weights = {}
        for row in linears:
            layer = self.component(row.component).get_submodule(row.diffusers)
            is_norm = row.in_features == 1
            assert is_norm or isinstance(layer, nn.Linear), "adapters are attached to the base"
            assert isinstance(layer.weight, nn.Parameter)
            weights[row.name] = layer.weight.detach()
        outer = {name: weights[name].clone() for name in self._changed.intersection(weights)}
        self._changed |= weights.keys()
        encodes_text = any(row.component is not None for row in linears)
        try:
            if self._swap is not None:
                self._swap.forget()
            with self._text.changed() if encodes_text else nullcontext():
                yield weights
        finally:
            if self._swap is not None:
                self._swap.forget()
            self._changed -= weights.keys() - outer.keys()
            lost = None
            for row in linears:  # all of them, also when one cannot be read again
                before = outer.get(row.name)
                try:
                    weights[row.name].copy_(self._stored(row) if before is None else before)
                except InputError as error:
                    lost = lost or error
            if lost is not None:
                raise lost

    def _stored(self, row: Linear) -> Tensor:
        part = self._parts.transformer if row.component is None else self._components[row.component]
        try:
            return part.stored(f"{row.diffusers}.weight")
        except InputError:
            part.release()  # its weights stay changed: they are never used again
            raise

    def read_text(self, tensors: Mapping[str, Tensor]) -> Text:
        return read_text(tensors)

    def text_losses(self, caption: str) -> list[str]:
        return self._text.losses(caption)

    @torch.no_grad()
    def encode_images(self, images_bchw: Tensor) -> Tensor:
        return self._latents().encode(images_bchw)

    @torch.no_grad()
    def decode_latents(self, latents_bchw: Tensor) -> Tensor:
        return self._latents().decode(latents_bchw)

    def _latents(self) -> LatentCodec:
        if self._codec is None:
            self._codec = LatentCodec(self._parts.vae.model, self._modes.vae_tiles)
        return self._codec
