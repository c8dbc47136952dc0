"""Stage 3: the accompanying convolution, shallow networks at several scales that sharpen a frame.

After Jing et al. 2022 (paper: "accompanying convolution"; the author's thesis: "a deep model composed
of multilayer multiscale shallow neural networks, selective transmission, and selective multiscale
optimization"). Only these words are published: everything here beyond them is inferred or ours.

Three equal stacks of levels: `p`, trained first and then frozen, is the reference; `a` and `b` are the
pair. What `choose` decides by the true frame, a schedule chosen on validation clips decides without it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vidpred_jax.models import convolution
from vidpred_jax.models.fields import require
from vidpred_jax.models.layers import Conv

STACKS = ("a", "b", "p")
_LEAD_WEIGHT = 0.25  # Of frames on which the pair is not behind (ours).


@struct.dataclass
class Translated:
    """Translated frames: frame, fusion, target (n, h, w, 3) in [-1, 1], steps_ahead (n,)."""

    frame: Any
    fusion: Any
    steps_ahead: Any
    target: Any


class Level(nn.Module):
    """Adds a correction to a frame, computed at 1/scale of its resolution. Starts near the identity.

    width: features of each of `layers` - 1 hidden convolutions. patch: blocks of patch x patch pixels
    are folded into channels, which is cheap.
    """

    scale: int
    width: int
    layers: int = 3
    kernel: int = 3
    patch: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, frame: Float[Array, "n h w 3"], fusion: Float[Array, "n h w 3"], steps_ahead: Float[Array, " n"]
    ) -> Float[Array, "n h w 3"]:
        """frame, fusion: in [-1, 1]. steps_ahead: frames after the last observed one."""
        _, h, w, _ = frame.shape
        x = at_scale(jnp.concatenate([frame, fusion], -1), self.scale)
        x = convolution.space_to_depth(x[:, None], self.patch)[:, 0]
        time = jnp.broadcast_to((steps_ahead / 16 - 1)[:, None, None, None], (*x.shape[:3], 1))
        x = jnp.concatenate([x, time], -1).astype(self.dtype)
        size = (self.kernel, self.kernel)
        for layer in range(self.layers - 1):
            x = nn.leaky_relu(Conv(self.width, size, dtype=self.dtype, name=f"conv_{layer}")(x), 0.2)
        x = Conv(3 * self.patch**2, size, scale=0.1, dtype=self.dtype, name="correction")(x)
        x = convolution.depth_to_space(x[:, None].astype(jnp.float32), self.patch)[:, 0]
        if self.scale > 1:
            x = jax.image.resize(x, (*x.shape[:1], h, w, x.shape[-1]), "linear")
        return jnp.clip(frame + x, -1.0, 1.0)


class AccompanyingStack(nn.Module):
    """Levels one after the other, coarse scales first (the order is inferred)."""

    scales: tuple[int, ...] = (4, 2, 1)
    widths: tuple[int, ...] = (32, 24, 24)
    layers: int = 3
    kernel: int = 3
    patch: int = 2
    dtype: Any = jnp.float32

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the fields do not fit each other or pictures of height x width."""
        limits = {"layers": 2, "kernel": 1, "patch": 1}
        rules = {f: (getattr(self, f) >= n, f"must be {n} or more") for f, n in limits.items()}
        require(self, **rules)
        if not self.scales or len(self.scales) != len(self.widths):
            raise ValueError(
                f"model.scales {self.scales} and model.widths {self.widths} must have one length, 1 or more"
            )
        for scale in self.scales:
            space = scale * self.patch
            if scale < 1 or height % space or width % space or min(height, width) < 8 * scale:
                raise ValueError(
                    f"model.scales {self.scales}: {scale} x model.patch ({self.patch}) must divide the "
                    f"picture size ({height} x {width}), and {scale} leave 8 x 8 of it or more"
                )

    def setup(self):
        self.levels = [
            Level(scale, width, self.layers, self.kernel, self.patch, self.dtype)
            for scale, width in zip(self.scales, self.widths, strict=True)
        ]

    def __call__(self, frame, fusion, steps_ahead):
        """The frame after each level, each fed with the one before: a list of (n, h, w, 3)."""
        frames = []
        for level in self.levels:
            frame = level(frame, fusion, steps_ahead)
            frames.append(frame)
        return frames

    def level(self, number: int, frame, fusion, steps_ahead):
        """One level alone."""
        return self.levels[number](frame, fusion, steps_ahead)


def at_scale(x: Float[Array, "n h w c"], scale: int) -> Float[Array, "n _ _ c"]:
    """Means of scale x scale pixels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // scale, scale, w // scale, scale, c).mean((2, 4))


def level_psnr(
    pred: Float[Array, "n h w 3"], target: Float[Array, "n h w 3"], scale: int
) -> Float[Array, " n"]:
    """PSNR in dB at a level's scale, of frames in [-1, 1]."""
    error = jnp.square(at_scale(pred, scale) - at_scale(target, scale)).mean((1, 2, 3)) / 4
    return -10 * jnp.log10(jnp.maximum(error, 1e-10))


def choose(quality: Float[Array, "3 ..."]) -> Int[Array, "..."]:
    """Selective transmission: the index of the stack passed on, by the PSNRs of a, b and p.

    The better of the pair (a in a tie) if it is at least p, else p.
    """
    best = jnp.maximum(quality[0], quality[1])
    pair = jnp.where(quality[0] >= quality[1], 0, 1)
    return jnp.where(best >= quality[2], pair, 2)


def behind(quality: Float[Array, "3 ..."]) -> Bool[Array, "..."]:
    """Selective optimisation: where both of the pair are below the reference."""
    return jnp.maximum(quality[0], quality[1]) < quality[2]


def pair_weights(quality: Float[Array, "3 n"]) -> Float[Array, " n"]:
    """The weight of each frame in the loss of a level of the pair."""
    return jnp.where(behind(quality), 1.0, _LEAD_WEIGHT)


def start_pair(params: dict) -> dict:
    """Parameters from which the training of the pair starts: the trained reference's, in b with a tenth of
    its initial weights added, as two equal networks would stay equal.
    """
    b = jax.tree.map(lambda p, b: p + 0.1 * b, params["p"], params["b"])
    return {**params, "a": params["p"], "b": b}


def qualities(frames: dict, target, scale: int) -> Float[Array, "3 n"]:
    """PSNR at the scale, of a, b and p."""
    return jnp.stack([level_psnr(frames[name], target, scale) for name in STACKS])


def run_pair(stack: AccompanyingStack, params: dict, frame, fusion, steps_ahead, target):
    """One pass of the algorithm with the true frame at hand: a list of one dict for each level.

    Each holds `frames` (outputs by stack), `quality` (3, n) and `passed`. Each level of the pair gets the
    gradient of its own loss alone: its input, the reference and the choice are constants.
    """
    feeds, passes = dict.fromkeys(STACKS, frame), []
    for number, scale in enumerate(stack.scales):
        frames = {
            name: stack.apply(
                {"params": params[name]}, number, feeds[name], fusion, steps_ahead, method="level"
            )
            for name in STACKS
        }
        constant = jax.lax.stop_gradient(frames)
        frames["p"] = constant["p"]
        quality = qualities(constant, target, scale)
        chosen = choose(quality)[None, :, None, None, None]
        passed = jnp.take_along_axis(jnp.stack([constant[name] for name in STACKS]), chosen, 0)[0]
        passes.append({"frames": frames, "quality": quality, "passed": passed})
        # The reference's levels are fed with its own outputs alone.
        feeds = {"a": passed, "b": passed, "p": constant["p"]}
    return passes
