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
    fields = dict(fields)
    if "num_labels" in kind.__dataclass_fields__:
        fields["num_labels"] = num_labels
    return at_size(kind(**fields), size, trained or size)


def at_size(module, size: tuple[int, int], before: tuple[int, int]):
    """A proposal for frames of one size that was for those of another. Raises InputError."""
    if hasattr(module, "flow_levels"):
        levels = module.flow_levels + round(math.log2(min(size) / min(before)))
        module = module.clone(flow_levels=max(levels, 1) if size != before else module.flow_levels)
    try:
        module.check(*size)
    except ValueError as error:
        raise InputError(str(error)) from error
    return module
