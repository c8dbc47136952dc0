"""TFDS builders written and read without TensorFlow, and readers of TFDS's own video sets."""
