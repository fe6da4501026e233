"""What every loaded base does with its parts: they are read when they are used and freed when they
are not, compute in the modes that a plan chose, and get their own weights back after a change."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from onmodel.errors import InputError
from onmodel.families.held import BlockSwap, hold
from onmodel.families.modes import Modes
from onmodel.families.parts import LazyPart
from onmodel.families.protocol import Linear, Text
from onmodel.families.settings import EmptyText
from onmodel.freed_memory import return_freed_memory


class Codec(Protocol):
    """Pictures −1…1 ↔ normalised latents."""

    def encode(self, images_bchw: Tensor) -> Tensor: ...

    def decode(self, latents_bchw: Tensor) -> Tensor: ...


class TextSide(Protocol):
    """Encodes texts with parts of a base, and remembers them. See `Family` for each."""

    def encode(self, captions: Sequence[str]) -> Sequence[Text]: ...

    def encode_prompts(self, prompts: Sequence[str], empty_text: EmptyText) -> Sequence[Text]: ...

    def training(self, trained: Collection[str]) -> AbstractContextManager[None]: ...

    def changed(self) -> AbstractContextManager[None]:
        """Within the context captions are encoded again, and what it remembers is dropped after
        it."""
        ...

    def losses(self, caption: str) -> list[str]: ...

    def release(self) -> None: ...


class LoadedBase(ABC):
    """The part of `onmodel.families.protocol.Family` that is the same for every family.

    `blocks` gives the blocks of the backbone's model in their order; names of its tensors that
    begin with one of `block_names` belong to them. `codec` makes what codes pictures of the VAE.
    """

    block_names: tuple[str, ...]
    codec: Callable[[Any, bool], Codec]

    def __init__(
        self,
        backbone: LazyPart,
        encoders: Mapping[str, LazyPart],
        vae: LazyPart,
        text: TextSide,
        dtype: torch.dtype,
        device: torch.device,
        sha256: str,
    ) -> None:
        self.device, self.dtype, self.sha256 = device, dtype, sha256
        self._backbone, self._components, self._vae = backbone, dict(encoders), vae
        self._text = text
        self._codec: Codec | None = None
        self._modes, self.quantization_error = Modes(), 0.0
        self._swap: BlockSwap | None = None
        self._changed: set[str] = set()  # layers, by contexts of `changed`

    @abstractmethod
    def blocks(self, model: Any) -> Sequence[nn.Module]: ...

    def model(self) -> Any:
        """The backbone."""
        part, modes = self._backbone, self._modes
        is_read, model = part.is_read, part.model
        if not is_read and (modes.swap_blocks or modes.quantize):
            self._swap, self.quantization_error = hold(self.blocks(model), modes, self.device)
        return model

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
            self._vae.release()
        if (modes.swap_blocks, modes.quantize) != (before.swap_blocks, before.quantize):
            held = bool(modes.swap_blocks or modes.quantize)
            self._backbone.on_host = self.block_names if held else ()
            self._backbone.release()
            self._swap, self.quantization_error = None, 0.0
            return_freed_memory()

    def encode_text(self, captions: Sequence[str]) -> list[Text]:
        return list(self._text.encode(captions))

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[Text]:
        return list(self._text.encode_prompts(prompts, empty_text))

    def component(self, name: str | None) -> nn.Module:
        found: nn.Module = self.model() if name is None else self._components[name].model
        return found

    def training_text(self, components: Collection[str]) -> AbstractContextManager[None]:
        return self._text.training(components)

    def release(self) -> None:
        self._text.release()
        self._codec = None
        self._vae.release()
        return_freed_memory()

    @contextmanager
    def changed(self, linears: Sequence[Linear]) -> Iterator[Mapping[str, Tensor]]:
        weights = {}
        for row in linears:
            layer = self.component(row.component).get_submodule(row.diffusers)
            plain = row.in_features == 1 or isinstance(layer, nn.Linear | nn.Conv2d)
            assert plain, "adapters are attached to the base"
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
        part = self._backbone if row.component is None else self._components[row.component]
        try:
            return part.stored(f"{row.diffusers}.weight")
        except InputError:
            part.release()  # its weights stay changed: they are never used again
            raise

    def text_losses(self, caption: str) -> list[str]:
        return self._text.losses(caption)

    @torch.no_grad()
    def encode_images(self, images_bchw: Tensor) -> Tensor:
        return self._latents().encode(images_bchw)

    @torch.no_grad()
    def decode_latents(self, latents_bchw: Tensor) -> Tensor:
        return self._latents().decode(latents_bchw)

    def _latents(self) -> Codec:
        if self._codec is None:
            self._codec = type(self).codec(self._vae.model, self._modes.vae_tiles)
        return self._codec
