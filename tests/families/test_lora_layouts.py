"""Our name tables against diffusers' own converters, and there and back again."""

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, CosmosTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_cosmos_transformer_checkpoint_to_diffusers,
    convert_wan_vae_to_diffusers,
)

from onmodel.families.anima.lora_layouts import block_of, linear_names, transformer_name, vae_name
from onmodel.families.anima.spec import make_spec


def transformer(blocks: int) -> CosmosTransformer3DModel:
    with torch.device("meta"):
        return CosmosTransformer3DModel(num_layers=blocks, extra_pos_embed_type=None)


@pytest.mark.parametrize("blocks", [28, 40])
def test_transformer_names_agree_with_diffusers(blocks: int) -> None:
    names = list(transformer(blocks).state_dict())
    ours = {f"net.{transformer_name(name)}": name for name in names}
    assert len(ours) == len(names)
    converted = convert_cosmos_transformer_checkpoint_to_diffusers(
        ours
    )  # the values are the names it must find
    assert len(converted) == len(names)
    assert all(theirs == name for theirs, name in converted.items())


def test_vae_names_agree_with_diffusers() -> None:
    with torch.device("meta"):
        vae = AutoencoderKLQwenImage()  # the published size: 2 residual blocks
    names = list(vae.state_dict())
    ours = {vae_name(name, 2): name for name in names}
    assert len(ours) == len(names)
    assert all(theirs == name for theirs, name in convert_wan_vae_to_diffusers(ours).items())


@pytest.mark.parametrize("blocks", [2, 28])
def test_the_list_of_layers_is_that_of_the_real_class(blocks: int) -> None:
    real = {(row.name, row.diffusers) for row in make_spec(transformer(blocks)).linears}
    assert set(linear_names(blocks)) == real


def test_block_of() -> None:
    assert block_of("transformer_blocks.27.attn1.to_q") == 27
    assert block_of("proj_out") is None


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        transformer_name("crossattn_proj.0.weight")
