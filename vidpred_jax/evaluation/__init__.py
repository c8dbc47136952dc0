"""Predictors compared on the same windows, and the report of it."""
