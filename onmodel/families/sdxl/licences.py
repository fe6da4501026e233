"""The licences of SDXL and of the bases made from it, and the words that go with a LoRA of one.

No tensor says which of them a checkpoint is, so a release names it (`base_model`); where the name
or the title of its file says another one, it is refused.
"""

from onmodel.families.licences import FAIPL, NOOBAI, OPENRAIL_PP, LicensedBase

_USE = (
    "This LoRA is a derivative of {title}, so its weights are under that model's licence,"
    " {licence}. The text behind the link is what counts, for the weights and for pictures made"
    " with them."
)
_SDXL, _ILLUSTRIOUS, _ANIMAGINE_3, _ANIMAGINE_4 = (
    "Stable Diffusion XL 1.0",
    "Illustrious XL 0.1",
    "Animagine XL 3",
    "Animagine XL 4",
)

BASES: dict[str, LicensedBase] = {
    "sdxl-1.0": LicensedBase(
        OPENRAIL_PP,
        title=_SDXL,
        models=("stabilityai/stable-diffusion-xl-base-1.0",),
        use=_USE.format(title=_SDXL, licence=OPENRAIL_PP.title),
        link="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0",
        diffusers_id="stabilityai/stable-diffusion-xl-base-1.0",
        civitai="SDXL 1.0",
        a1111="SDXL",
    ),
    "illustrious": LicensedBase(
        FAIPL,
        title=_ILLUSTRIOUS,
        models=("OnomaAIResearch/Illustrious-xl-early-release-v0",),
        use=_USE.format(title=_ILLUSTRIOUS, licence=FAIPL.title),
        link="https://huggingface.co/OnomaAIResearch/Illustrious-xl-early-release-v0",
        diffusers_id="OnomaAIResearch/Illustrious-xl-early-release-v0",
        civitai="Illustrious",
        a1111="SDXL",
        called=r"illustrious",
    ),
    "animagine-3": LicensedBase(
        FAIPL,
        title=_ANIMAGINE_3,
        models=("cagliostrolab/animagine-xl-3.1", "cagliostrolab/animagine-xl-3*"),
        use=_USE.format(title=_ANIMAGINE_3, licence=FAIPL.title),
        link="https://huggingface.co/cagliostrolab/animagine-xl-3.1",
        diffusers_id="cagliostrolab/animagine-xl-3.1",
        civitai="SDXL 1.0",
        a1111="SDXL",
        called=r"animagine[-_ ]?(xl)?[-_ ]?v?3",
    ),
    "animagine-4": LicensedBase(
        OPENRAIL_PP,
        title=_ANIMAGINE_4,
        models=("cagliostrolab/animagine-xl-4.0", "cagliostrolab/animagine-xl-4.0*"),
        use=_USE.format(title=_ANIMAGINE_4, licence=OPENRAIL_PP.title),
        link="https://huggingface.co/cagliostrolab/animagine-xl-4.0",
        diffusers_id="cagliostrolab/animagine-xl-4.0",
        civitai="SDXL 1.0",
        a1111="SDXL",
        called=r"animagine[-_ ]?(xl)?[-_ ]?v?4",
    ),
    "noobai": LicensedBase(
        NOOBAI,
        title="NoobAI XL",
        models=("Laxhar/noobai-XL-1.0", "Laxhar/noobai-XL*", "Laxhar/sdxl_noob"),
        use="",
        refused=(
            "its card forbids every commercial use, which the Fair AI Public License 1.0-SD that it"
            " names allows; ask its makers which of the two holds"
        ),
        called=r"noob[-_ ]?(ai|xl)|laxhar",
    ),
    "pony": LicensedBase(
        FAIPL,
        title="Pony Diffusion V6 XL",
        models=("AstraliteHeart/pony-diffusion-v6",),
        use="",
        refused=(
            "its page adds limits on paid generation to the Fair AI Public License 1.0-SD that it"
            " names; ask its maker which of the two holds"
        ),
        called=r"pony",
    ),
    "kohaku": LicensedBase(
        FAIPL,
        title="Kohaku XL",
        models=("KBlueLeaf/Kohaku-XL*",),
        use="",
        refused="its versions have different licences; release on the base that it was made from",
        called=r"kohaku",
    ),
}
