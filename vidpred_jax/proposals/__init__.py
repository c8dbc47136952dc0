"""Forecasts without networks: the naive baselines."""
