"""The paper's two networks in PyTorch, as `benchmarks/benchmark.py --peer=torch` times beside ours.

The same layers, names and parameters as models/fusion_predictor.py and models/translator.py without
references and proposals, tanh included; `build` copies our weights. channels_last throughout; on a GPU
where there is one.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("torch", "torch_compiled") if DEVICE == "cuda" else ("torch",)


class UNet3d(nn.Module):
    """(b, 3, t, h, w) -> the same, in [-1, 1]."""

    def __init__(self, widths, time_strides, context=16):
        super().__init__()
        self.widths, self.time_strides = widths, time_strides
        self.layers = nn.ModuleDict({"stem": nn.Conv3d(3, widths[0], 1)})
        self.time_embedding = nn.Parameter(torch.zeros(1, widths[0], context, 1, 1))
        for level, features in enumerate(widths):
            self.layers[f"down_{level}_0"] = _Block(features)
            if level < len(widths) - 1:
                folded = 4 * time_strides[level] * features
                self.layers[f"halve_{level}"] = nn.Conv3d(folded, widths[level + 1], 1)
                self.layers[f"double_{level}"] = nn.Conv3d(widths[level + 1], features, 1)
                self.layers[f"join_{level}"] = nn.Conv3d(2 * features, features, 1)
                self.layers[f"up_{level}_0"] = _Block(features)
        self.layers["paint"] = nn.Conv3d(widths[0], 3, 1)

    def forward(self, x):
        layers, skips = self.layers, []
        x = layers["stem"](x) + self.time_embedding
        for level in range(len(self.widths)):
            x = layers[f"down_{level}_0"](x)
            if level < len(self.widths) - 1:
                skips.append(x)
                x = layers[f"halve_{level}"](_fold(x, self.time_strides[level]))
        for level in reversed(range(len(self.widths) - 1)):
            x = layers[f"double_{level}"](x)
            x = functional.interpolate(x, scale_factor=(self.time_strides[level], 2, 2))
            x = layers[f"join_{level}"](torch.cat([x, skips[level]], 1))
            x = layers[f"up_{level}_0"](x)
        return torch.tanh(layers["paint"](x))


class _Block(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv = nn.Conv3d(features, features, 3, padding=1, bias=False)
        groups = next(n for n in range(min(8, features), 0, -1) if features % n == 0)
        self.norm = nn.GroupNorm(groups, features, eps=1e-6)

    def forward(self, x):
        return functional.silu(self.norm(self.conv(x)))


def _fold(x, time):
    """Blocks of time x 2 x 2 into channels."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // time, time, h // 2, 2, w // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    x = x.reshape(b, -1, t // time, h // 2, w // 2)
    return x.contiguous(memory_format=torch.channels_last_3d)


class Generator(nn.Module):
    """(n, 3, h, w) -> the same, in [-1, 1]; batch normalisation."""

    def __init__(self, widths):
        super().__init__()
        self.widths, self.layers = widths, nn.ModuleDict()
        for level, features in enumerate(widths):
            before = widths[level - 1] if level else 3
            self.layers[f"down_{level}"] = nn.Conv2d(before, features, 3, stride=2)
            if level:
                self.layers[f"down_norm_{level}"] = nn.BatchNorm2d(features, eps=1e-5)
        for level in reversed(range(len(widths) - 1)):
            before = widths[-1] if level == len(widths) - 2 else 2 * widths[level + 1]
            self.layers[f"up_{level}"] = nn.Conv2d(before, widths[level], 3, padding=1)
            self.layers[f"up_norm_{level}"] = nn.BatchNorm2d(widths[level], eps=1e-5)
        self.layers["paint"] = nn.Conv2d(2 * widths[0], 3, 3, padding=1)

    def forward(self, x):
        layers, skips = self.layers, []
        for level in range(len(self.widths)):
            x = layers[f"down_{level}"](functional.pad(x, (0, 1, 0, 1)))
            if level:
                x = layers[f"down_norm_{level}"](x)
            x = functional.leaky_relu(x, 0.2)
            skips.append(x)
        for level in reversed(range(len(self.widths) - 1)):
            x = layers[f"up_{level}"](functional.interpolate(x, scale_factor=2))
            x = functional.relu(layers[f"up_norm_{level}"](x))
            x = torch.cat([x, skips[level]], 1)
        return torch.tanh(layers["paint"](functional.interpolate(x, scale_factor=2)))


def build(stage: str, fields: dict, params: dict) -> nn.Module:
    """The network with our weights, in channels_last."""
    params = {**params, **params["unet"]}
    is_fusion, widths = stage == "fusion", fields["widths"]
    module = UNet3d(widths, fields["time_strides"]) if is_fusion else Generator(widths)
    with torch.no_grad():
        if is_fusion:
            _set(module.time_embedding, np.moveaxis(params["time_embedding"], -1, 0)[None])
        for name, layer in module.layers.items():
            _copy(layer, params[name])
    layout = torch.channels_last_3d if is_fusion else torch.channels_last
    return module.to(device=DEVICE, memory_format=layout)


def _copy(layer, params):
    if isinstance(layer, _Block):
        _copy(layer.conv, params["Conv_0"])
        _copy(layer.norm, params["Norm_0"])
        return
    if "kernel" in params:
        _set(layer.weight, np.moveaxis(params["kernel"], (-1, -2), (0, 1)))
    else:
        (params,) = params.values() if "scale" not in params else (params,)
        _set(layer.weight, params["scale"])
    if layer.bias is not None:
        _set(layer.bias, params["bias"])


def _set(parameter, values):
    parameter.copy_(torch.from_numpy(np.array(values)))


def to_tensor(x: np.ndarray) -> torch.Tensor:
    """(b, [t], h, w, c) -> (b, c, [t], h, w), in channels_last memory as it comes."""
    return torch.from_numpy(np.array(x)).to(DEVICE).movedim(-1, 1)


def to_array(x: torch.Tensor) -> np.ndarray:
    return x.detach().movedim(1, -1).float().cpu().numpy()


def steps(make, x: np.ndarray, target: np.ndarray, learning_rate: float, precision: str):
    """({name: a call that makes a step: L1, backward, Adam}, the prediction before the first).

    make: `build` with its arguments. x, target: batches as of `to_tensor`.
    """
    x, target = to_tensor(x), to_tensor(target)
    with torch.no_grad(), _numerics(precision):
        pred = to_array(make().eval()(x))

    def step(module, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss = functional.l1_loss(module(x).float(), target.float())
        loss.backward()
        optimizer.step()

    calls = {}
    for name in NAMES:
        module = make().train()
        optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)
        calls[name] = _timed(step, precision, _compiled(module, name), optimizer)
    return calls, pred


def rollouts(networks, context: np.ndarray, horizon: int, precision: str) -> dict:
    """{name: a call that predicts}. networks: of stages 1 and 2, from `build`."""
    context = to_tensor(context)
    return {
        name: _timed(rollout, precision, *(_compiled(n, name) for n in networks), context, horizon)
        for name in NAMES
    }


@torch.no_grad()
def rollout(predictor, translator, context, horizon: int):
    """The stage-1 network fed with its last output, each picture translated: frames (b, t, 3, h, w)."""
    window, frames = context, []
    for _ in range(horizon):
        new = predictor(window)[:, :, -1:]
        window = torch.cat([window[:, :, 1:], new], 2)
        frames.append(translator(new[:, :, 0].contiguous(memory_format=torch.channels_last)))
    return torch.stack(frames, 1)


def _compiled(module, name):
    return torch.compile(module) if name == "torch_compiled" else module


def _timed(function, precision, *args):
    """A call of it in a precision, that ends when its work is done."""

    def call():
        with _numerics(precision):
            function(*args)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return call


def _numerics(precision: str):
    """A context to compute in: `float32`, `tf32` or `bfloat16` (autocast), as ours of that name."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True  # XLA tries the algorithms of a convolution too.
    return torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16")
