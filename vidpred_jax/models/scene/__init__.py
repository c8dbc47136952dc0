"""The scene of an observed clip, tracked objects and a background mosaic, and its extrapolation."""
