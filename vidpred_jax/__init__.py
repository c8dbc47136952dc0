"""Video prediction in JAX: from a few observed frames to the next 32 or more."""

import importlib

__version__ = "0.4.0"
_PUBLIC = {
    "load": ("inference.loading", "load"),
    "Predictor": ("inference.predictor", "Predictor"),
    "Prediction": ("inference.prediction", "Prediction"),
    "read_video": ("data.video_io", "read"),
    "read_masks": ("data.masks", "read_masks"),
}
__all__ = list(_PUBLIC)


def __dir__():
    return [*globals(), *__all__]


def __getattr__(name):
    # Imported on first use: `import vidpred_jax` alone starts no backend.
    if name in _PUBLIC:
        module, attribute = _PUBLIC[name]
        return getattr(importlib.import_module(f"vidpred_jax.{module}"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
