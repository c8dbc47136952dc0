"""Predicts the frames after a clip, or after every clip of a data set, and writes what came out."""

from vidpred_jax.cli import common, rollout

if __name__ == "__main__":
    common.run(rollout.main)
