"""How LoRA files name the layers of a component."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoraNames:
    """What files may write before a layer's name in a `component` (None: the backbone): before its
    name in the base's own files, before that of diffusers, and before each with "_" for ".".

    The layers' own names begin with one of `starts`. onmodel writes `common` before them, or, where
    it is None, kohya's keys in the common layout too; and `kohya` before what follows `inside`.
    `kernels`: how the names of convolutions end, and the side of their kernel.
    """

    component: str | None
    starts: tuple[str, ...]
    common: str | None
    kohya: str
    own: tuple[str, ...]
    diffusers: tuple[str, ...]
    flat: tuple[str, ...]
    flat_diffusers: tuple[str, ...]
    inside: str = ""
    kernels: tuple[tuple[str, int], ...] = ()

    def kernel(self, name: str) -> int:
        """The side of the kernel of a convolution; 0 for another layer."""
        return next((side for end, side in self.kernels if name.endswith(end)), 0)
