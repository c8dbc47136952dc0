"""Networks from the `model` part of a config, checked before anything is computed."""

import contextlib

import jax
import jax.numpy as jnp

from vidpred_jax import stages
from vidpred_jax.fields import check_types
from vidpred_jax.models import convolution
from vidpred_jax.models.accompanying import AccompanyingStack
from vidpred_jax.models.baselines.pix2pixhd import Pix2PixHD
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.translator import Translator
from vidpred_jax.types import CONTEXT, InputError

# By stage and a config's `network`; the first of a stage is its default.
NETWORKS = {
    "fusion": {"unet3d": FusionPredictor},
    "translator": {"unet": Translator, "pix2pixhd": Pix2PixHD},
    "direct": {"simvp": SimVP, "unet3d": FusionPredictor},
    "accompanying": {"stack": AccompanyingStack},
}
for _name, _networks in NETWORKS.items():
    stages.get(_name).networks.update(_networks)
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# A config's `precision`: what networks compute in (parameters, losses and statistics are float32),
# and how float32 products are formed where the hardware has a faster, coarser way.
PRECISIONS = {
    "float32": ("float32", "highest"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", None),
}


@contextlib.contextmanager
def numerics(config: dict):
    """What is traced within the block computes as `precision` and `convolutions` of a config say."""
    products = PRECISIONS[config.get("precision", "float32")][1]
    with convolution.form(config.get("convolutions", "fast")), jax.default_matmul_precision(products):
        yield


def network_fields(config: dict, group: str = "model") -> dict:
    """The fields of a network in a config, its `precision` among them."""
    return {"dtype": PRECISIONS[config["precision"]][0], **config[group]}


def make_network(
    stage: stages.Stage,
    fields: dict,
    height: int,
    width: int,
    *,
    context: int = CONTEXT,
    name: str = "",
    axis_name: str | None = None,
):
    """A network of a stage by its name among the stage's. Raises InputError naming the field.

    context: observed frames, which are also the most reference frames. axis_name: of the devices over
    which batch statistics are taken.
    """
    network = stage.network(name)
    known = network.__dataclass_fields__
    if "dtype" not in known:  # It computes in float32 alone.
        fields = {field: value for field, value in fields.items() if field != "dtype"}
    fields = _clean(network, fields, "model")
    if axis_name and "axis_name" in known:
        fields["axis_name"] = axis_name
    if "context" in fields:
        raise InputError(f"model.context ({fields['context']}) is that of the config: use context")
    if "context" in known:
        fields["context"] = context
    if "reference_frames" in known:
        wanted = fields.get("reference_frames", known["reference_frames"].default)
        fields["reference_frames"] = min(wanted, context)
    try:
        module = network(**fields)
        module.check(height, width)
    except ValueError as error:
        raise InputError(str(error)) from error
    return module


def make_stack(fields: dict, height: int, width: int) -> AccompanyingStack:
    """The accompanying convolution. Raises InputError naming the field."""
    try:
        stack = AccompanyingStack(**_clean(AccompanyingStack, fields, "model"))
        stack.check(height, width)
        return stack
    except ValueError as error:
        raise InputError(str(error)) from error


def make_discriminator(fields: dict, axis_name=None) -> PatchDiscriminator | MultiScaleDiscriminator:
    """At several scales where the fields name them. Raises InputError naming the field."""
    kind = MultiScaleDiscriminator if "scales" in fields else PatchDiscriminator
    module = kind(**_clean(kind, fields, "discriminator"), axis_name=axis_name)
    try:
        module.check()
    except ValueError as error:
        raise InputError(str(error)) from error
    return module


def _clean(module, fields, prefix) -> dict:
    """Lists (from JSON) to tuples, names to dtypes; unknown fields and wrong types refused."""
    check_types(module, fields, prefix)
    clean = {}
    for field, value in fields.items():
        if field == "dtype":
            if not isinstance(value, str) or value not in _DTYPES:
                raise InputError(f"{prefix}.dtype ({value!r}) must be one of {', '.join(_DTYPES)}")
            value = _DTYPES[value]
        clean[field] = tuple(value) if isinstance(value, list) else value
    return clean
