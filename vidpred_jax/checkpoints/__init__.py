"""Checkpoints through Orbax: arrays and JSON only, no code and no pickle."""
