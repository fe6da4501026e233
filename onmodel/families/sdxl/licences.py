"""The licences of SDXL and of the bases made from it."""

from onmodel.families.licences import FAIPL, NOOBAI, OPENRAIL_PP, LicensedBase

BASES: dict[str, LicensedBase] = {
    "sdxl": LicensedBase(
        OPENRAIL_PP, "Stable Diffusion XL", ("stabilityai/stable-diffusion-xl-base-1.0",), ""
    ),
    "illustrious": LicensedBase(
        FAIPL, "Illustrious XL 0.1", ("OnomaAIResearch/Illustrious-xl-early-release-v0",), ""
    ),
    "noobai": LicensedBase(
        NOOBAI, "NoobAI XL", ("Laxhar/noobai-XL-1.0", "Laxhar/noobai-XL*", "Laxhar/sdxl_noob"), ""
    ),
    "animagine-3": LicensedBase(
        FAIPL,
        "Animagine XL 3",
        ("cagliostrolab/animagine-xl-3.1", "cagliostrolab/animagine-xl-3*"),
        "",
    ),
    "animagine-4": LicensedBase(
        OPENRAIL_PP, "Animagine XL 4", ("cagliostrolab/animagine-xl-4.0*",), ""
    ),
    "kohaku": LicensedBase(FAIPL, "Kohaku XL", ("KBlueLeaf/Kohaku-XL*",), ""),
}
