"""Forecasts without networks: the naive baselines, and those with a few fitted numbers."""
