"""Small configs of the package, changed where a test asks for it, and the state of their runs."""

import pathlib

from vidpred_jax import checkpointer, cli, experiment, experiment_accompanying

ROOT = pathlib.Path(__file__).parents[1]


def get_config(stage, data_dir, preset="smoke", **fields) -> dict:
    """A field of a part of the config is given as part__field."""
    config = cli.load_config(ROOT / "configs" / f"{stage}.py", preset)
    config["data"]["data_dir"] = str(data_dir)
    for name, value in fields.items():
        part, _, field = name.rpartition("__")
        (config[part] if part else config)[field] = value
    return config


def restored(config, workdir):
    """The training state that a run's newest checkpoint holds."""
    stages = experiment_accompanying if config["stage"] == "accompanying" else experiment
    template = stages.make(config).state
    return checkpointer.Checkpointer(workdir, create=False).restore(template)
