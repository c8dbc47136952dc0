"""Which runs go together, and that each network computes in its own precision."""

import os

import jax
from saved import write_run

from vidpred_jax import stages
from vidpred_jax.checkpoints import runs
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.models.maps import Picture


class Spy:
    """A module whose output is the precision of products while it is applied."""

    def apply(self, variables):
        return jax.config.jax_default_matmul_precision


class SpyProposal:
    """As `Spy`, for a proposal."""

    def apply(self, variables, method):
        return jax.config.jax_default_matmul_precision


def test_each_network_computes_in_its_own_precision():
    found = []
    for name, precision in (("fusion", "float32"), ("translator", "bfloat16"), ("direct", "tf32")):
        config = {"precision": precision, "convolutions": "fast"}
        network = Network(stages.get(name), Spy(), config, (32, 32), Picture())
        with jax.default_matmul_precision("tensorfloat32"):  # That of the training around it.
            found.append(network.apply({}))
    assert found == ["highest", None, "tensorfloat32"]


def test_the_newest_pair_was_trained_together(tmp_path):
    def write(name, stage, age, data, **fields):
        write_run(tmp_path / name, stage, 1, {"data": {"name": data}, **fields})
        os.utime(tmp_path / name / "checkpoints" / "1", (1e9 - age, 1e9 - age))

    assert runs.newest_pair(tmp_path) is None
    write("a", "fusion", 50, "sprites")
    write("b", "fusion", 10, "digits")  # Newer, of other data.
    assert runs.newest_pair(tmp_path) is None
    write("t", "translator", 40, "sprites", fusion_run=str(tmp_path / "a"))
    assert runs.newest_pair(tmp_path) == (str(tmp_path / "a"), str(tmp_path / "t"))
    write("gone", "translator", 30, "sprites", fusion_run="elsewhere/c")
    write("moved", "translator", 20, "sprites", fusion_run="elsewhere/a")  # Beside it now.
    assert runs.newest_pair(tmp_path) == (str(tmp_path / "a"), str(tmp_path / "moved"))
    write("alone", "translator", 5, "digits", fusion_run="")  # Trained on no stage 1.
    assert runs.newest_pair(tmp_path) == (str(tmp_path / "b"), str(tmp_path / "alone"))
    real = runs.newest_pair(tmp_path, lambda data: data != "digits")
    assert real == (str(tmp_path / "a"), str(tmp_path / "moved"))


def test_a_proposal_computes_in_the_precision_that_it_was_fitted_in():
    for precision, expected in (("float32", "highest"), ("tf32", "tensorfloat32")):
        config = {"precision": precision, "convolutions": "fast"}
        proposal = Proposal("x", SpyProposal(), {}, (config, {}))
        with jax.default_matmul_precision("bfloat16"):
            assert proposal.apply({}, "observe") == expected
