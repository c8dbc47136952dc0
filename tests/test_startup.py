"""What a command sets before JAX is used."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import pytest

from vidpred_jax import stages, startup
from vidpred_jax.models import build


def run(code, *args, **environment):
    """What `code` prints, as JSON, in a process of its own."""
    hidden = ("JAX_COMPILATION_CACHE_DIR", "GLIBC_TUNABLES", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CACHE = """
import json, sys, jax
from vidpred_jax import startup
startup.keep_programs(*sys.argv[1:])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append("cache_hits" in name))
jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, x: jax.numpy.sin(x @ x), x))(jax.numpy.eye(64))
print(json.dumps([jax.config.jax_compilation_cache_dir, any(hits)]))
"""


def test_programs_are_kept_for_the_next_process(tmp_path):
    home = {"XDG_CACHE_HOME": str(tmp_path)}
    folder, hit = run(CACHE, **home)
    assert folder.startswith(str(tmp_path / "vidpred_jax")) and not hit
    assert run(CACHE, **home) == [folder, True]
    assert run(CACHE, "off", **home)[1] is False
    assert run(CACHE, str(tmp_path / "named"), **home) == [str(tmp_path / "named"), False]
    own = str(tmp_path / "own")
    assert run(CACHE, **home, JAX_COMPILATION_CACHE_DIR=own) == [own, False]


FLAGS = """
import json, os
from vidpred_jax import startup
done = startup.compile_quickly()
import jax
jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(4)).block_until_ready()
print(json.dumps([done, os.environ.get("XLA_FLAGS", "")]))
"""


GARBAGE = """
import gc, json
from vidpred_jax import startup
startup.collect_rarely()
class Cycle:
    alive = 0
    def __init__(self): self.own = self; Cycle.alive += 1
    def __del__(self): Cycle.alive -= 1
most = 0
for _ in range(1_000_000):
    Cycle()
    most = max(most, Cycle.alive)
print(json.dumps([gc.get_freeze_count() > 0, most]))
"""


def test_garbage_is_looked_for_rarely_and_found():
    frozen, most = run(GARBAGE)
    assert frozen and 10_000 < most < 200_000


@pytest.mark.skipif(not jaxlib.__version__.startswith("0.10."), reason="it is for jaxlib 0.10")
def test_programs_compile_quickly_unless_told_how(tmp_path):
    quick, other = "--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=0"
    assert run(FLAGS, XLA_FLAGS=other) == [True, f"{other} {quick}"]
    own = quick.replace("false", "true")
    assert run(FLAGS, XLA_FLAGS=own) == [False, own]
    (tmp_path / "flags").write_text(other)
    assert run(FLAGS, XLA_FLAGS=str(tmp_path / "flags")) == [False, str(tmp_path / "flags")]


ONEDNN = """
import json, os, warnings
from vidpred_jax import startup
done = startup.use_onednn()
import jax
from vidpred_jax.models import convolution
warnings.simplefilter("error", append=True)
x, w = jax.numpy.ones((1, 4, 8, 8, 16)), jax.numpy.ones((3, 3, 3, 16, 16))
program = jax.jit(lambda x, w: jax.value_and_grad(lambda x: convolution.conv(x, w).sum())(x))
text = program.lower(x, w).compile().as_text()
error = abs(program(x, w)[1] - jax.grad(lambda x: convolution.native_conv(x, w).sum())(x)).max()
print(json.dumps([done, startup.uses_onednn(), "onednn$conv" in text, bool(error < 1e-3)]))
"""


def test_convolutions_are_left_to_onednn_where_jaxlib_knows_it():
    knows = startup._KNOWS_ONEDNN
    assert run(ONEDNN) == [knows, knows, knows, True]
    own = "--xla_cpu_experimental_onednn_custom_call=false"
    assert run(ONEDNN, XLA_FLAGS=own) == [False, False, False, True]


MEMORY = """
import ctypes, json
import numpy as np
from vidpred_jax import startup
done = startup.keep_memory()
pages = lambda: int(open("/proc/self/statm").read().split()[1])
before = pages()
x = np.ones(1 << 25); del x
print(json.dumps([done, (pages() - before) * 4096 > 1 << 27]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has this setting")
def test_freed_memory_is_kept():
    assert run(MEMORY) == [True, True]
    assert run(MEMORY, GLIBC_TUNABLES="glibc.malloc.arena_max=4") == [False, False]


def test_precision_is_one_field_of_a_config():
    config = {"model": {"widths": [8, 8], "time_strides": [2]}}
    for precision, dtype, products in (
        ("float32", "float32", "highest"),
        ("tf32", "float32", "tensorfloat32"),
        ("bfloat16", "bfloat16", None),
    ):
        with build.numerics({"precision": precision}):
            assert jax.config.jax_default_matmul_precision == products
        fields = build.network_fields({**config, "precision": precision})
        assert build.make_network(stages.get("fusion"), fields, 16, 16).dtype == jnp.dtype(dtype)
