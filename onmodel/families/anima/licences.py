"""Anima's licence and the words that go with everything made from it."""

from onmodel.families.licences import Licence, LicensedBase

# Version 1.2, section 3b asks for the notices below.
CIRCLESTONE = Licence(
    name="circlestone-labs-non-commercial-license",
    title="CircleStone Labs Non-Commercial License",
    link="https://huggingface.co/circlestone-labs/Anima/blob/main/LICENSE.md",
    hub_id="other",
    declared=("circlestone-labs-non-commercial", "circlestone labs non-commercial"),
    marks=("CircleStone Labs Non-Commercial License",),
    demands=("text", "notice", "changes", "restrictions"),
    commercial=False,
)

BASES: dict[str, LicensedBase] = {
    "anima": LicensedBase(
        CIRCLESTONE,
        title="Anima (anima-base-v1.0)",
        models=("circlestone-labs/Anima", "circlestone-labs/Anima*"),
        use=(
            "This LoRA is a derivative of Anima, so its weights are under Anima's own licence,"
            " which limits them to non-commercial purposes. The text behind the link is what"
            " counts, for the weights and for pictures made with them."
        ),
        link="https://huggingface.co/circlestone-labs/Anima",
        diffusers_id="circlestone-labs/Anima-Base-v1.0-Diffusers",
        civitai="Anima",
        notice=(
            (
                "The CircleStone Model is licensed by CircleStone Labs LLC under the CircleStone"
                " Non-Commercial License. Copyright CircleStone Labs LLC.\nIN NO EVENT SHALL"
                " CIRCLESTONE LABS LLC BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER"
                " IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN"
                " CONNECTION WITH USE OF THIS MODEL."
            ),
            (
                "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n"
                "(https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/)"
            ),
            "Built on NVIDIA Cosmos",
        ),
    ),
}
