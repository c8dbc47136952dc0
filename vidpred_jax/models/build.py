"""Networks from the `model` part of a config, checked before anything is computed."""

import contextlib

import jax
import jax.numpy as jnp

from vidpred_jax import schema
from vidpred_jax.models import convolution
from vidpred_jax.models.accompanying import Selection, Stack
from vidpred_jax.models.baselines.pix2pixhd import Pix2PixHD
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.compositor import Compositor
from vidpred_jax.models.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d
from vidpred_jax.types import InputError

# By stage and a config's `network`; the first of a stage is its default, the paper's.
NETWORKS = {
    "fusion": {"unet3d": UNet3d},
    "translator": {"unet": Generator, "compositor": Compositor, "pix2pixhd": Pix2PixHD},
    "direct": {"simvp": SimVP, "unet3d": UNet3d},
}
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
    form = config.get("convolutions", "fast")
    if form not in convolution.FORMS:
        raise InputError(f"convolutions ({form!r}) must be one of {', '.join(convolution.FORMS)}")
    with convolution.form(form), jax.default_matmul_precision(_precision(config)[1]):
        yield


def _precision(config) -> tuple[str | None, str | None]:
    name = config.get("precision")
    if name is not None and name not in PRECISIONS:
        raise InputError(f"precision ({name!r}) must be one of {', '.join(PRECISIONS)}")
    return PRECISIONS.get(name, (None, None))


def network_fields(config: dict, group: str = "model") -> dict:
    """The fields of a network in a config, its `precision` among them."""
    dtype, fields = _precision(config)[0], config[group]
    return {"dtype": dtype, **fields} if dtype else fields


def make_generator(
    stage: str, fields: dict, height: int, width: int, axis_name=None, network: str | None = None
):
    """The network of a stage by its name in `NETWORKS`. Raises InputError naming the field."""
    if stage not in NETWORKS:
        raise InputError(f"stage {stage!r} is not one of {', '.join(NETWORKS)}")
    known = NETWORKS[stage]
    network = network or next(iter(known))
    if network not in known:
        raise InputError(f"network ({network!r}) must be one of {', '.join(known)}")
    fields = _clean(known[network], fields, "model")
    if axis_name and "axis_name" in known[network].__dataclass_fields__:
        fields["axis_name"] = axis_name
    try:
        module = known[network](**fields)
        module.check(height, width)
    except ValueError as error:
        raise InputError(str(error)) from error
    return module


def make_stack(fields: dict, selection: dict, height: int, width: int) -> tuple[Stack, Selection]:
    """The accompanying convolution and its switches. Raises InputError naming the field."""
    schema.check_types(Selection, selection, "selection")
    known = set(Selection.__dataclass_fields__)
    for field in selection:
        if field not in known:
            raise InputError(f"selection.{field} is not one of {', '.join(sorted(known))}")
    try:
        stack = Stack(**_clean(Stack, fields, "model"))
        stack.check(height, width)
        return stack, Selection(**selection)
    except ValueError as error:
        raise InputError(str(error)) from error


def make_discriminator(
    fields: dict, axis_name=None
) -> PatchDiscriminator | MultiScaleDiscriminator:
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
    schema.check_types(module, fields, prefix)
    known = set(module.__dataclass_fields__) - {"parent", "name", "axis_name"}
    clean = {}
    for field, value in fields.items():
        if field not in known:
            raise InputError(
                f"{prefix}.{field} is not a field of {module.__name__}: {', '.join(sorted(known))}"
            )
        if field == "dtype":
            if not isinstance(value, str) or value not in _DTYPES:
                raise InputError(f"{prefix}.dtype ({value!r}) must be one of {', '.join(_DTYPES)}")
            value = _DTYPES[value]
        clean[field] = tuple(value) if isinstance(value, list) else value
    return clean
