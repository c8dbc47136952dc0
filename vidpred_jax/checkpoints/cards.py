"""The weights that come with the package, and the card of each: what they are and what each network adds.

A folder under `weights/` holds `card.json` and a run for each stage. The card's `networks` are {stage:
{"psnr", "lpips"}}: what is lost in dB and gained in LPIPS, as a share, in the row without that network.
"""

import json
import math
import pathlib

from vidpred_jax.checkpoints import runs
from vidpred_jax.types import InputError

FOLDER = pathlib.Path(__file__).parents[1] / "weights"
FILE = "card.json"
# Networks that add less are not presented as doing anything.
LEAST_PSNR, LEAST_LPIPS = 0.1, 0.02
_FIELDS = {
    "description": str,
    "data": str,
    "terms": str,
    "commands": list,
    "seconds": (int, float),
    "figures": dict,
    "networks": (dict, str),
}


def names() -> tuple[str, ...]:
    """The names of the weights."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{FILE}")))


def runs_of(weights: str) -> tuple[str, ...]:
    """The run folders of weights, the first stage first. Raises InputError for an unknown name."""
    if weights not in names():
        raise InputError(f"weights ({weights!r}) must be one of {', '.join(names())}")
    return runs.within(FOLDER / weights)


def read(weights: str) -> dict:
    """The card of weights that come with the package. Raises InputError."""
    runs_of(weights)
    return read_file(FOLDER / weights / FILE)


def read_file(path: pathlib.Path) -> dict:
    """A card, checked. Raises InputError."""
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"card {path} cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise InputError(f"card {path} must be a JSON object")
    for field, kind in _FIELDS.items():
        if not isinstance(card.get(field), kind):
            raise InputError(f"card {path} needs {field}, one of {', '.join(_FIELDS)}")
    networks = card["networks"]
    if isinstance(networks, str):
        if networks != "none":
            raise InputError(f"card {path}: networks ({networks!r}) must be none or a group")
        return card
    for stage, found in networks.items():
        if not isinstance(found, dict) or not all(
            isinstance(found.get(x), (int, float)) and math.isfinite(found[x]) for x in ("psnr", "lpips")
        ):
            raise InputError(f"card {path}: networks.{stage} needs the numbers psnr and lpips")
    if not any(adds(found) for found in networks.values()):
        raise InputError(
            f"card {path}: networks that add less than {LEAST_PSNR} dB and {LEAST_LPIPS:.0%} of LPIPS "
            "are none"
        )
    return card


def make(card: dict, summary: dict, folders: dict[str, str]) -> dict:
    """The card of weights, {stage: folder of its run}, with the figures of their evaluation, `summary.json`.

    Raises InputError, also where no network adds enough to be named.
    """
    rows, stages, measured = summary.get("predictors", {}), set(folders), summary.get("runs", {})
    wanted = {run for stage, run in folders.items() if stage != "proposal" or len(folders) == 1}
    name = next((name for name, found in measured.items() if set(found) == wanted), None)
    if name not in rows or "lpips" not in rows[name]:
        raise InputError(
            f"the evaluation must be of {', '.join(sorted(wanted))}, with lpips among its --metrics"
        )
    if stages != {"proposal"} and f"{name}, no networks" not in rows:
        raise InputError("the evaluation of networks needs --ablate")
    mean = lambda row, metric: rows[row][metric]["mean"]
    networks = {}
    for number, stage in enumerate(("fusion", "translator", "accompanying"), 1):
        row = f"{name}, no stage {number}"
        if row in rows:
            psnr = mean(name, "psnr") - mean(row, "psnr")
            lpips = mean(row, "lpips") / max(mean(name, "lpips"), 1e-6) - 1
            networks[stage] = {"psnr": round(psnr, 3), "lpips": round(lpips, 4)}
    if stages != {"proposal"} and not any(map(adds, networks.values())):
        raise InputError(
            f"no network adds {LEAST_PSNR} dB or {LEAST_LPIPS:.0%} of LPIPS ({networks}): save the run of "
            "their proposal alone"
        )
    means = lambda row: {metric: found["mean"] for metric, found in rows[row].items()}
    figures, (own, at, _) = means(name), name.rpartition(", clarity ")
    if at:  # Of each clarity, by its name.
        figures = {n.removeprefix(f"{own}, "): means(n) for n in measured if n.startswith(own + at)}
    return {
        **card,
        "figures": {"data": summary["data"], "table": summary["table"], **figures},
        "networks": networks or "none",
    }


def adds(found: dict) -> bool:
    """Whether a network adds enough to be named."""
    return found["psnr"] >= LEAST_PSNR or found["lpips"] >= LEAST_LPIPS


def describe(weights: str) -> str:
    """The name as commands print it: with what does the work, where that is no network."""
    alone = read(weights)["networks"] == "none"
    return f"{weights} (proposals only, no network)" if alone else weights
