"""Random augmentation of training windows: crops, flips, speed, direction of time."""

import numpy as np

from vidpred_jax.config import Augmentation


def augment(window: dict, options: Augmentation, rng: np.random.Generator) -> dict:
    """The same random crop and flips for every array (t, h, w, ...) of the window."""
    height, width = next(iter(window.values())).shape[1:3]
    cut = lambda x: x
    if options.crop < 1:
        share = rng.uniform(options.crop, 1)
        sides = [max(int(size * share), 1) for size in (height, width)]
        rooms = [size - side for size, side in zip((height, width), sides, strict=True)]
        top, left = (int(rng.integers(room + 1)) for room in rooms)
        cut = lambda x: x[:, top : top + sides[0], left : left + sides[1]]
    flips = []
    if options.flip and rng.random() < 0.5:
        flips.append(lambda x: x[:, :, ::-1])
    if options.flip_vertical and rng.random() < 0.5:
        flips.append(lambda x: x[:, ::-1])
    if options.transpose and height == width and rng.random() < 0.5:
        flips.append(lambda x: x.swapaxes(1, 2))
    found = {}
    for name, array in window.items():
        array = cut(array)
        for flip in flips:
            array = flip(array)
        found[name] = np.ascontiguousarray(array)
    return found
