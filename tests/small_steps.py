"""Small networks and train steps of stages 1 and 2, and a batch for them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from vidpred_jax import stages
from vidpred_jax.config import Loss
from vidpred_jax.inference import networks
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.inference.system import System
from vidpred_jax.models.discriminators import PatchDiscriminator
from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.maps import Picture, Planes
from vidpred_jax.models.translator import Translator
from vidpred_jax.proposals.forecast import Forecast
from vidpred_jax.training import forward, state, steps

CONFIG = {"precision": "float32", "convolutions": "fast"}
PICTURE, PLANES = Picture(), Planes(3)
GAN = Loss(l1=1.0, ssim=0.5, adversarial=0.5)
_CREATED = {}  # Initial states, the optimizer aside: to compile `init` takes seconds.
UNET = FusionPredictor(widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, outputs=4)


class LastFrame(nn.Module):
    """A proposal in one line: the newest frame, brighter by `bright` at each step; its edges fade so."""

    confidence: float = 0.75

    def __call__(self, window, steps_ahead):
        return self.propose(self.observe(window), steps_ahead)

    def observe(self, window):
        return jax.tree.map(lambda x: x[:, -1:], window)

    @nn.compact
    def propose(self, newest, steps_ahead):
        bright = self.param("bright", nn.initializers.constant(0.01), ())
        brighter = bright * steps_ahead[..., None, None]
        edges = newest.edges / (1 + brighter)
        labels = jnp.broadcast_to(newest.labels, edges.shape)
        return Forecast(
            newest.frames + brighter[..., None], edges, labels, jnp.full(edges.shape, self.confidence)
        )


def make_network(stage, module, form=PICTURE, *, size=(16, 16), context=16, **fields):
    """fields: of `Network`."""
    config = {**CONFIG, "context": context}
    return Network(stages.get(stage), module, config, size, form, **fields)


def make_proposals(confidence=0.75, bright=0.01):
    """A proposal `last`, with its number."""
    params = {"bright": jnp.float32(bright)}
    return {"last": Proposal("last", LastFrame(confidence), params)}


def init(network, seed=0):
    """Variables of a network."""
    return jax.jit(network.module.init)(jax.random.key(seed), *networks.example_inputs(network))


def make_batch(seed=0):
    """Eight clips of 28 frames of 16 x 16; a clip's maps are made of another clip's frames."""
    rng = np.random.default_rng(seed)
    repeat = lambda x: np.repeat(np.repeat(x, 4, 2), 4, 3)
    fine = repeat(rng.integers(0, 256, (8, 28, 4, 4, 3)).astype(np.uint8))
    edges, labels = 255 * rng.integers(0, 2, (8, 28, 4, 4)), rng.integers(0, 3, (8, 28, 4, 4))
    planes = repeat(np.stack([edges, labels], -1).astype(np.uint8))
    lengths = np.full(8, 28, np.int32)
    return {"frames": fine, "fusion": np.roll(fine, 1, 0), "planes": planes, "length": lengths}


def make_state(network, discriminator, tx, frozen=None):
    """A fresh state of a network and, where there is one, a discriminator."""
    key = (network.stage.name, network.module, network.form, network.size, network.context, discriminator)
    key += tuple(network.proposals)
    if key not in _CREATED:
        size, channels = network.size, network.form.channels
        shown = channels if network.stage.role == "predict" else 3
        pair = tuple(jnp.zeros((1, *size, n)) for n in (channels, shown))
        inputs = networks.example_inputs(network)
        _CREATED[key] = state.create(
            jax.random.key(0), network.module, discriminator, inputs, pair, optax.identity()
        )
    created = _CREATED[key]
    opt_state = {name: tx.init(params) for name, params in created.params.items()}
    return created.replace(opt_state=opt_state, frozen=frozen if frozen is not None else {})


def make_fusion(
    tx,
    weights=GAN,
    max_unroll=2,
    axis_name=None,
    *,
    module=UNET,
    form=PICTURE,
    proposals=None,
    proposal_dropout=0.0,
):
    """(first state, step) of stage 1."""
    network = make_network("fusion", module, form, proposals=proposals or {})
    system = System.of(network)
    discriminator = PatchDiscriminator((4,), 4, norm="none") if weights.adversarial else None
    first = make_state(network, discriminator, tx, {"propose": system.variables["propose"]})
    run = forward.predict_forward(
        network, system, weights.terms, max_unroll=max_unroll, proposal_dropout=proposal_dropout
    )
    return first, steps.make_train_step(run, discriminator, tx, weights)


def make_translator(
    tx,
    weights=GAN,
    axis_name=None,
    norm="batch",
    predicted_fraction=0.5,
    *,
    form=PICTURE,
    proposals=None,
    proposal_dropout=0.0,
):
    """(first state, step) of stage 2 behind a frozen stage 1."""
    proposals = proposals or {}
    module = Translator((8, 8), 0.0, norm, reference_frames=1, axis_name=axis_name)
    network = make_network("translator", module, form, proposals=proposals)
    predict = make_network("fusion", UNET, form, proposals=proposals)
    system = System.of(predict, network)
    discriminator = PatchDiscriminator((4,), 4, norm=norm, axis_name=axis_name)
    frozen = {"predict": init(predict, 3), "propose": system.variables["propose"]}
    first = make_state(network, discriminator, tx, frozen)
    run = forward.translate_forward(
        network,
        system,
        weights.terms,
        targets_per_clip=3,
        predicted_fraction=predicted_fraction,
        proposal_dropout=proposal_dropout,
    )
    return first, steps.make_train_step(run, discriminator, tx, weights)
