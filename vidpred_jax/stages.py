"""The stages: what a run can be. Every room reads them here; to add one, `register` it.

A stage's role says how its network is used, and its networks stand by the name that a config gives.
"""

import dataclasses
from typing import Any

from vidpred_jax.fields import shorten
from vidpred_jax.types import InputError

# What the network of a role is called with, and what it gives: raw values (b t h w c), which are added to
# what is proposed. Of `predict` it has fields `context`, `shift` and `outputs` (the last maps of the clip
# that it gives), of `translate` `reference_frames`; both have `check(height, width)`. A `propose` module has
# `observe` and `propose` (`proposals/forecast.py`).
ROLES = {
    "propose": "observed frames, edges and labels -> forecasts without a network",
    "predict": "the observed maps -> the same maps `shift` frames later; fed with its own output",
    "translate": "maps, references, steps ahead -> their RGB frames",
    "sharpen": "frames, fusion pictures, steps ahead -> sharper frames",
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """field: what is predicted, `fusion` or `frames`.

    earlier: the stages whose runs it is trained behind; a config names each as `NAME_run`. networks:
    {name: flax module}, the default first.
    """

    name: str
    role: str
    field: str
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


register(Stage("proposal", "propose", "frames"))
register(Stage("fusion", "predict", "fusion"))
register(Stage("translator", "translate", "frames", ("fusion",)))
register(Stage("accompanying", "sharpen", "frames", ("fusion", "translator")))
register(Stage("direct", "predict", "frames"))
