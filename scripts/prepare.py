"""Builds a data set from a folder of clips, DAVIS's layout, a TFDS catalogue set or MNIST digits."""

from vidpred_jax.cli import common, prepare

if __name__ == "__main__":
    common.run(prepare.main)
