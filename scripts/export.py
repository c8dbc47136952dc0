"""Keeps of a run what prediction needs, without the state of its training: a tenth of its size."""

from vidpred_jax.cli import common, export

if __name__ == "__main__":
    common.run(export.main)
