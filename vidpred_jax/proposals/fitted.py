"""The fitted proposals by name, made from the `model` part of a config."""

import math

from vidpred_jax import stages
from vidpred_jax.fields import check_types
from vidpred_jax.proposals.flow_blend import FlowBlend
from vidpred_jax.proposals.scene.scene import Scene
from vidpred_jax.types import InputError

PROPOSALS = {"scene": Scene, "flow_blend": FlowBlend}
stages.get("proposal").networks.update(PROPOSALS)


def make(
    name: str, fields: dict, num_labels: int, size: tuple[int, int], trained: tuple[int, int] | None = None
):
    """A proposal for frames of a size (height, width). Raises InputError naming the field.

    num_labels: of its data. trained: the size that it was fitted at; optical flow has as many more
    pyramid levels as `size` is doublings larger.
    """
    kind = stages.get("proposal").network(name)
    check_types(kind, fields, "model")
    if "num_labels" in fields:
        raise InputError(f"model.num_labels ({fields['num_labels']}) is that of the data set")
    known = kind.__dataclass_fields__
    fields = dict(fields)
    if "flow_levels" in known and trained:
        levels = fields.get("flow_levels", known["flow_levels"].default)
        fields["flow_levels"] = max(levels + round(math.log2(min(size) / min(trained))), 1)
    if "num_labels" in known:
        fields["num_labels"] = num_labels
    try:
        module = kind(**fields)
        module.check(*size)
    except ValueError as error:
        raise InputError(str(error)) from error
    return module
