"""An evaluation shared between processes: batches go round, and the table is that of one process."""

import io
import itertools
import json

import jax
import numpy as np

from vidpred_jax import processes
from vidpred_jax.evaluation.compare import Table


def of_this_process(places: list[tuple[str, int]], batch_size: int) -> set[tuple[str, int]]:
    """The windows of every so many-th batch, (clip, start) each."""
    index, count = jax.process_index(), jax.process_count()
    return {place for i, place in enumerate(places) if i // batch_size % count == index}


def joined(parts: list[Table]) -> Table:
    """The table of all processes' batches, in every process. parts: the tables of this one's, in order."""
    if jax.process_count() == 1:
        return Table.of(parts)
    found = [_unpacked(each) for each in processes.gather(_packed(parts))]
    rounds = itertools.zip_longest(*found)
    return Table.of([part for each in rounds for part in each if part is not None])


def _packed(parts) -> bytes:
    """Tables as the bytes of an .npz: `told`, JSON whose leaves that are numbers are those of arrays."""
    arrays, file = [], io.BytesIO()

    def put(array):
        arrays.append(np.asarray(array))
        return len(arrays) - 1

    told = []
    for part in parts:
        pictures = [_map(put, {k: e[k] for k in ("context", "truth", "predictions")}) for e in part.shown]
        told.append(
            {
                "clips": part.clips,
                "seconds": part.seconds,
                "places": [(entry["clip"], entry["start"]) for entry in part.shown],
                "arrays": [_map(put, part.values), _map(put, part.features), pictures],
            }
        )
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(file, told=text, **{str(i): array for i, array in enumerate(arrays)})
    return file.getvalue()


def _unpacked(data: bytes) -> list[Table]:
    with np.load(io.BytesIO(data)) as arrays:
        found = []
        for part in json.loads(arrays["told"].tobytes()):
            values, features, pictures = _map(lambda i: arrays[str(i)], part["arrays"])
            named = zip(part["places"], pictures, strict=True)
            shown = [{"clip": clip, "start": start, **entry} for (clip, start), entry in named]
            found.append(Table(part["clips"], values, shown, features, part["seconds"]))
        return found


def _map(function, tree):
    """jax.tree.map sorts keys, which are rows in their order here."""
    if isinstance(tree, dict):
        return {key: _map(function, each) for key, each in tree.items()}
    return [_map(function, each) for each in tree] if isinstance(tree, list) else function(tree)
