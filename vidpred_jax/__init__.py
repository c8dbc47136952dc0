"""Video prediction in JAX: from 16 observed frames to the next 32 or more."""

__version__ = "0.2.0"
__all__ = ["Prediction", "Predictor", "load"]


def __getattr__(name):
    # Imported on first use: `import vidpred_jax` alone starts no backend.
    if name in __all__:
        from vidpred_jax.inference import loading, predictor

        return loading.load if name == "load" else getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
