"""Networks and proposals put together: the one way from observed frames and maps to predicted ones.

`Predictor`, validation and evaluation all predict by `make_predict`.
"""

import contextlib
import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vidpred_jax.data import fusion, sizes
from vidpred_jax.inference import proposing, rollout
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.models import maps
from vidpred_jax.types import InputError

_SHIFT = 8  # Steps at once where no network predicts them.


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """A network for each role that is filled, and proposals, by name. Where `predict` is missing, maps are
    those of the proposals, and where `translate` is, frames are; without proposals either, frames are maps
    in mean colours (`fill`).

    context: observed frames. size: height and width of frames and maps. facts: of the data that the first
    network was trained on. alone: whether networks that add to proposals are given none. clarity: below 1
    what stage 2 gives is mixed with the proposals' mean.
    """

    context: int
    size: tuple[int, int]
    form: maps.Planes | maps.Picture
    facts: dict
    predict: Network | None = None
    translate: Network | None = None
    sharpen: Network | None = None
    proposals: dict[str, Proposal] = dataclasses.field(default_factory=dict)
    alone: bool = False
    clarity: float = 1.0

    @classmethod
    def of(cls, *networks: Network) -> "System":
        """Raises InputError where a role is filled twice or the networks do not fit each other."""
        roles, first = {}, networks[0]
        for network in networks:
            role = network.stage.role
            if role in roles:
                raise InputError(f"runs {roles[role].run!r} and {network.run!r} both {role}")
            if role != "propose":
                roles[role] = network
            if network.context != first.context:
                found = ", ".join(f"{n.run!r} {n.context}" for n in networks)
                raise InputError(f"the runs observe several numbers of frames: {found}; they must be equal")
            if network.size != first.size:
                raise InputError(
                    f"{first.stage.name} run {first.run!r} works at {sizes.by(first.size)}, "
                    f"{network.stage.name} run {network.run!r} at {sizes.by(network.size)}; they must be "
                    "equal"
                )
        predict, translate = roles.get("predict"), roles.get("translate")
        if predict and translate and predict.stage.field == "frames":
            raise InputError(f"run {predict.run!r} predicts frames: no translator run goes with it")
        if predict and translate and predict.form != translate.form:
            raise InputError(
                f"runs {predict.run!r} and {translate.run!r} are of different maps: {predict.form} and "
                f"{translate.form}"
            )
        if "sharpen" in roles and not translate:
            raise InputError(f"accompanying run {roles['sharpen'].run!r} needs a translator run")
        form = (predict or translate or first).form
        shared = first.context, first.size, form, first.facts
        return cls(*shared, proposals=_union(networks), **roles)

    def telling_apart(self, num_labels: int) -> "System":
        """The same with as many labels, for proposals alone."""
        if num_labels == self.facts["num_labels"]:
            return self
        form = maps.Planes(num_labels) if self.form.field == "planes" else self.form
        proposals = {name: proposal.telling_apart(num_labels) for name, proposal in self.proposals.items()}
        return dataclasses.replace(self, form=form, proposals=proposals)

    def at_size(self, size: tuple[int, int]) -> "System":
        """The same for frames of another size. Raises InputError where they do not fit it."""
        whole = lambda x: isinstance(x, numbers.Integral) and x > 0
        if not (isinstance(size, Sequence) and len(size) == 2 and all(map(whole, size))):
            raise InputError(f"size ({size!r}) must be a height and a width, whole numbers above 0")
        sizes.check("size", size, least=1)
        if tuple(size) == self.size:
            return self
        try:
            proposals = {name: proposal.at_size(size, self.size) for name, proposal in self.proposals.items()}
            networks = {network.stage.role: network.at_size(size) for network in self.networks}
        except InputError as error:
            raise InputError(f"size {sizes.by(size)}: {error}") from error
        return dataclasses.replace(self, size=tuple(size), proposals=proposals, **networks)

    def size_at(self, height: int, width: int) -> tuple[int, int]:
        """The size nearest to an aspect that all can work at, its lesser side as it is."""
        for size in sizes.near(min(self.size), height, width):
            with contextlib.suppress(InputError):
                return self.at_size(size).size
        return self.size

    @property
    def has_clarity(self) -> bool:
        """Whether `at_clarity` has a choice: not behind stage 1, which adds to what it was trained over."""
        choice = any(hasattr(p.module, "clarity") for p in self.proposals.values())
        return choice and self.networks in ([], [self.translate])

    def at_clarity(self, clarity: float) -> "System":
        """The same at a clarity, as of `Predictor.at_clarity`."""
        if isinstance(clarity, bool) or not isinstance(clarity, numbers.Real) or not 0 <= clarity <= 1:
            raise InputError(f"clarity ({clarity!r}) must be a number from 0 to 1")
        if not self.has_clarity:
            raise InputError(
                f"clarity ({clarity}): these weights have one forecast; the proposal flow_blend and "
                "stage 2 over it have a choice, as the weights real"
            )
        if self.translate and clarity:
            return dataclasses.replace(self, clarity=float(clarity))
        return dataclasses.replace(self, translate=None, proposals=_at_clarity(self.proposals, clarity))

    @property
    def without_networks(self) -> "System":
        """Its proposals alone, at its clarity."""
        alone = dataclasses.replace(self, predict=None, translate=None, sharpen=None, clarity=1.0)
        if not self.has_clarity or self.clarity == 1:
            return alone
        return dataclasses.replace(alone, proposals=_at_clarity(self.proposals, self.clarity))

    @property
    def networks(self) -> list[Network]:
        return [n for n in (self.predict, self.translate, self.sharpen) if n is not None]

    @property
    def variables(self) -> dict[str, Any]:
        """By role, as `make_predict` takes them."""
        own = {network.stage.role: network.variables for network in self.networks}
        return {**own, "propose": {name: p.params for name, p in self.proposals.items()}}

    @property
    def fields(self) -> tuple[str, ...]:
        """What is predicted: `fusion` pictures, `frames` or both."""
        if self.predict and self.predict.stage.field == "frames":
            return ("frames",)
        return ("fusion", "frames") if self.predict or self.proposals else ("frames",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The arrays of a clip that prediction needs."""
        proposed = ("planes",) if self.proposals else ()
        return tuple(dict.fromkeys(("frames", self.form.field, *proposed)))


def _at_clarity(proposals, clarity) -> dict[str, Proposal]:
    return {name: proposal.at_clarity(clarity) for name, proposal in proposals.items()}


def _union(networks) -> dict[str, Proposal]:
    """The proposals of all networks, by name. Raises InputError where two of one name differ."""
    found = {}
    for network in networks:
        for name, proposal in network.proposals.items():
            known, run = found.setdefault(name, (proposal, network.run))
            clarities = {getattr(p.module, "clarity", None) for p in (known, proposal)}
            if len(clarities) > 1 or not _equal(known.params, proposal.params):
                raise InputError(
                    f"runs {run!r} and {network.run!r} add to different proposals {name!r}; train one "
                    "behind the other"
                )
    return {name: proposal for name, (proposal, _) in found.items()}


def _equal(one, other) -> bool:
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(one) == len(other) and all(
        x is y or (x.shape == y.shape and bool((x == y).all())) for x, y in zip(one, other, strict=True)
    )


def make_predict(
    system: System,
    horizon: int,
    *,
    known_maps: bool = False,
    finish: Callable = fusion.to_uint8,
    fields: tuple[str, ...] | None = None,
    tell: Callable | None = None,
):
    """A function `(variables, clip) -> {field: (b, horizon, h, w, 3)}` to jit.

    variables: `System.variables`. clip: the uint8 arrays of `System.inputs`, (b, t, h, w, c), of which the
    first `context` frames are observed. known_maps: frames of the maps that follow in the clip, which
    stage 2 is given instead of predicted ones. finish: applied to the pictures that are kept. fields: of
    `System.fields`, or `maps`, as the networks see them; None: all of the first. tell: the function takes a
    number too, and `tell(number, steps predicted)` is called on the host as it goes on.
    """
    context, form = system.context, system.form
    wanted = system.fields if fields is None else fields
    wanted = ("frames",) if known_maps else wanted

    def predict(variables, clip, number=None):
        forecast = _forecasts(system, variables, clip)
        observed = form.encode(clip[form.field][:, :context])
        translate = _translate(system, variables, clip, observed, forecast)
        first, b = None if known_maps else system.predict, len(observed)
        shift = first.shift if first else _SHIFT
        if known_maps:
            shift = min(shift, horizon)
            known = clip[form.field][:, context : context + horizon]
            known = jnp.pad(known, [(0, 0), (0, -horizon % shift), (0, 0), (0, 0), (0, 0)])

        def advance(window, call):
            forecasts = forecast(rollout.steps_ahead(call, shift, b))
            if known_maps:
                some = jax.lax.dynamic_slice_in_dim(known, call * shift, shift, axis=1)
                return form.encode(some), forecasts
            if first is None:
                return proposing.proposed_maps(form, forecasts), forecasts
            kept = jnp.zeros(b, bool) if system.alone else None
            return first.predict(variables["predict"]["params"], window, forecasts, kept), forecasts

        def keep(new, forecasts, call):
            found = {"fusion": form.render(new)} if "fusion" in wanted else {}
            if "frames" in wanted:
                steps = rollout.steps_ahead(call, shift, b)
                direct = first and first.stage.field == "frames"
                found["frames"] = new if direct else translate(new, steps, forecasts)
            found = jax.tree.map(finish, found)
            if tell is not None:
                done, found = jax.lax.optimization_barrier((jnp.minimum((call + 1) * shift, horizon), found))
                jax.debug.callback(tell, number, done)
            return {**found, "maps": new} if "maps" in wanted else found

        return rollout.roll(advance, keep, observed if first else None, shift, horizon)

    return predict


def _forecasts(system, variables, clip):
    """`(steps_ahead, proposals=those of the system) -> forecasts by name` after a clip, observed once."""
    if not system.proposals:
        return lambda steps_ahead: {}
    window = proposing.window_of(clip, system.context)
    observations = proposing.observe(system.proposals, variables["propose"], window)

    def forecast(steps_ahead, proposals=system.proposals):
        return proposing.propose(proposals, variables["propose"], observations, steps_ahead)

    return forecast


def _translate(system, variables, clip, observed, forecast):
    """`(maps, steps_ahead, forecasts) -> frames` after a clip."""
    network, third = system.translate, system.sharpen
    frames = fusion.to_float(clip["frames"][:, : system.context])

    def translate(some, steps_ahead, forecasts):
        if network is not None:
            seen = rollout.references(frames, observed, network.reference_frames)
            kept = jnp.zeros(len(some), bool) if system.alone else None
            found = network.translate(variables["translate"], some, seen, steps_ahead, forecasts, kept)
            if system.clarity < 1:
                mean = proposing.frame_base(forecast(steps_ahead, _at_clarity(system.proposals, 0.0)))
                found = mean + system.clarity * (found - mean)
        elif system.proposals:
            found = proposing.frame_base(forecasts)
        else:
            found = fill(system.form, some, observed, frames)
        if third is not None:
            pictures = system.form.render(some)
            found = third.apply(variables["sharpen"], found, pictures, steps_ahead)
        return found

    return translate


def fill(form, some, observed, frames):
    """Frames of maps without a network: edges and each label in their mean colours in the observed frames.

    some: maps (b, t, h, w, c); observed: those of `frames` (b, n, h, w, 3). A label that was not observed is
    grey.
    """

    def shares(x):
        edges, labels = form.decode(x)
        labels = jax.nn.one_hot(labels, getattr(form, "num_labels", len(fusion.PALETTE)))
        return jnp.concatenate([edges[..., None], (1 - edges[..., None]) * labels], -1)

    seen = shares(observed)
    colors = jnp.einsum("bnhwk,bnhwc->bkc", seen, frames)
    colors /= jnp.maximum(seen.sum((1, 2, 3)), 1e-3)[..., None]
    return jnp.einsum("bthwk,bkc->bthwc", shares(some), colors)
