"""The stages: what a run can be. Every room reads them here; to add one, `register` it.

A stage's role says how its network is used, and its networks stand by the name that a config gives.
"""

import dataclasses
from typing import Any

from vidpred_jax.fields import shorten
from vidpred_jax.types import InputError

# What the network of a role is called with, and what it gives (b t h w c, all in [-1, 1]). Of `predict` it
# has fields `context`, `shift` and `outputs` (the last frames of the clip that it gives), of `translate`
# `reference_frames` and `needs_fusion`; both have `check(height, width)` and `observe(...)`, what is
# computed once a window.
ROLES = {
    "predict": "the observed clip -> the same clip `shift` frames later; fed with its own output",
    "translate": "fusion pictures, references, steps ahead -> their RGB frames",
    "sharpen": "frames, fusion pictures, steps ahead -> sharper frames",
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """field: what is predicted, `fusion` or `frames`. inputs: the fields of a clip that its batches hold.

    earlier: the stages whose runs it is trained behind; a config names each as `NAME_run`. networks:
    {name: flax module}, the default first.
    """

    name: str
    role: str
    field: str
    inputs: tuple[str, ...]
    earlier: tuple[str, ...] = ()
    networks: dict[str, type] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"role ({self.role!r}) must be one of {', '.join(ROLES)}")

    def network(self, name: str) -> type:
        """The network of a config's `network`; '': the stage's default. Raises InputError."""
        name = name or next(iter(self.networks))
        if name not in self.networks:
            raise InputError(f"network ({name!r}) must be one of {', '.join(self.networks)}")
        return self.networks[name]


STAGES: dict[str, Stage] = {}


def register(stage: Stage) -> Stage:
    STAGES[stage.name] = stage
    return stage


def get(name: Any) -> Stage:
    """Raises InputError for a stage that is not registered."""
    if not isinstance(name, str) or name not in STAGES:
        raise InputError(f"stage {shorten(name)} is not one of {', '.join(STAGES)}")
    return STAGES[name]


register(Stage("fusion", "predict", "fusion", ("fusion",)))
register(Stage("translator", "translate", "frames", ("frames", "fusion"), ("fusion",)))
register(Stage("accompanying", "sharpen", "frames", ("frames", "fusion"), ("fusion", "translator")))
register(Stage("direct", "predict", "frames", ("frames",)))
