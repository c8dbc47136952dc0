"""The scene of an observed window, tracked objects over a background mosaic, and its extrapolation."""
