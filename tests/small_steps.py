"""Small train steps of stages 1 and 2, and a batch for them."""

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.models.discriminators import PatchDiscriminator
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d
from vidpred_jax.training import state, steps

GAN = steps.LossWeights(l1=1.0, ssim=0.5, adversarial=0.5)
UNET = UNet3d(
    widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, num_flows=1, outputs=4
)


def make_batch():
    """Eight clips of 28 frames of 16 x 16; a clip's pictures are another clip's frames."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 28, 4, 4, 3)).astype(np.uint8)
    fine = np.repeat(np.repeat(coarse, 4, 2), 4, 3)
    lengths = np.full(8, 28, np.int32)
    return {"frames": fine, "fusion": np.roll(fine, 1, 0), "length": lengths}


def make_fusion(tx, weights=GAN, max_unroll=2, axis_name=None, model=UNET):
    discriminator = PatchDiscriminator((4,), 4, norm="none") if weights.adversarial else None
    frame = jnp.zeros((1, 16, 16, 3))
    first = state.create(
        jax.random.key(0),
        model,
        discriminator,
        (jnp.zeros((1, 16, 16, 16, 3)),),
        (frame, frame),
        tx,
    )
    forward = steps.fusion_forward(model, max_unroll)
    return first, steps.make_train_step(forward, discriminator, tx, weights)


def make_translator(tx, weights=GAN, axis_name=None, norm="batch", predicted_fraction=0.5):
    model = Generator((8, 8), 0.0, norm, reference_frames=1, num_flows=1, axis_name=axis_name)
    discriminator = PatchDiscriminator((4,), 4, norm=norm, axis_name=axis_name)
    frame = jnp.zeros((1, 16, 16, 3))
    frozen = jax.jit(UNET.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 16, 3)))["params"]
    inputs = (frame[None], jnp.zeros((1, 1, 16, 16, 6)), jnp.ones((1, 1)))
    first = state.create(
        jax.random.key(0), model, discriminator, inputs, (frame, frame), tx, frozen
    )
    forward = steps.translator_forward(
        model, targets_per_clip=3, predictor=UNET, predicted_fraction=predicted_fraction
    )
    return first, steps.make_train_step(forward, discriminator, tx, weights)
