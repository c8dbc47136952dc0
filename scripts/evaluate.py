"""Measures trained runs, naive baselines and predictions of other systems on the same windows."""

from vidpred_jax.cli import common, evaluate

if __name__ == "__main__":
    common.run(evaluate.main, before=evaluate.before)
