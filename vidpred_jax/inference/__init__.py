"""Trained runs as predictors: loading, rollout of any horizon, prediction of clips."""
