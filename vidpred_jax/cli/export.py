"""Keeps of a run what prediction needs, without the state of its training: a tenth of its size.

python scripts/export.py --run=runs/compositor --output=weights/compositor

The folder is a run as others are for rollout.py and evaluate.py, but training cannot go on from it.
"""

import pathlib

from absl import flags

from vidpred_jax.checkpoints import export
from vidpred_jax.types import InputError, UserError

_RUN = flags.DEFINE_string("run", None, "Run folder.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Its checkpoint; the best by validation.", 0)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; it must not exist.", required=True)


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    if output.exists():
        raise InputError(f"--output={output} exists already; name a new folder")
    try:
        files = export.export(_RUN.value, output, _STEP.value)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    print(f"wrote {output}: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB")
