"""Runs a file of `vidpred export --format=stablehlo` with nothing but jax, numpy and flatbuffers.

python serve_exported.py real.stablehlo --input=frames.npy --output=predicted.npy
python serve_exported.py real.stablehlo --port=8000
curl --data-binary @frames.npy localhost:8000 --output predicted.npy

frames.npy: uint8 (t, h, w, 3) or (b, t, h, w, 3), RGB, of the size that the file was exported for; the last
frames are observed. Files that read maps take an .npz of `frames` and `planes` instead.
"""

import argparse
import http.server
import importlib.metadata
import io
import os
import pathlib
import sys
import zipfile

import numpy as np

if importlib.metadata.version("jaxlib").startswith("0.10."):  # Compiled as vidpred_jax does: the same bytes.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
from jax import export

MOST_BYTES = 1 << 30  # Of a request.
BAD = (ValueError, KeyError, OSError, EOFError, MemoryError, zipfile.BadZipFile)  # What bad files raise.


def read(stream, avals):
    """The arguments out of an .npy or .npz, batched and checked against the shapes that the file takes."""
    found = np.load(stream, allow_pickle=False)
    found = [found] if isinstance(found, np.ndarray) else [found[name] for name in ("frames", "planes")]
    if len(found) != len(avals):
        raise ValueError(f"{len(found)} arrays were given; {len(avals)} are needed")
    arguments = []
    for array, aval in zip(found, avals, strict=True):
        _, context, *rest = aval.shape
        batch = array if array.ndim == 5 else array[None]
        if batch.ndim != 5 or batch.dtype != np.uint8 or list(batch.shape[2:]) != rest:
            raise ValueError(
                f"{array.dtype} {array.shape} was given; uint8 (t, {', '.join(map(str, rest))}) is needed"
            )
        if batch.shape[1] < context:
            raise ValueError(f"{batch.shape[1]} frames were given; {context} or more are needed")
        arguments.append(batch[:, -context:])
    return arguments, found[0].ndim == 5


def load(path):
    """A function `stream -> frames` of a file: the program and, its first arguments, the weights."""
    with np.load(path, allow_pickle=False) as held:
        exported = export.deserialize(bytearray(held["module"].tobytes()))
        weights = [held[name] for name in sorted(held.files) if name.startswith("weights_")]

    def predict(stream):
        arguments, batched = read(stream, exported.in_avals[len(weights) :])
        found = np.asarray(exported.call(weights, *arguments))
        return found if batched else found[0]

    return predict


def serve(predict, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 60  # Seconds without a byte.

        def do_POST(self):
            answer = io.BytesIO()
            try:
                length = int(self.headers.get("Content-Length", 0))
                if not 0 < length <= MOST_BYTES:
                    raise ValueError(f"{length} bytes were sent; 1 to {MOST_BYTES} are taken")
                np.save(answer, predict(io.BytesIO(self.rfile.read(length))))
                status = 200
            except BAD as error:
                status, answer = 400, io.BytesIO(f"{error}\n".encode())
            self.send_response(status)
            self.send_header("Content-Length", str(answer.getbuffer().nbytes))
            self.end_headers()
            self.wfile.write(answer.getvalue())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--input", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("predicted.npy"))
    parser.add_argument("--port", type=int, help="serve at this port instead; 0: any that is free")
    asked = parser.parse_args()
    if (asked.input is None) == (asked.port is None):
        parser.error("give one of --input and --port")
    try:
        predict = load(asked.file)
    except BAD as error:
        sys.exit(f"error: {asked.file} is no exported file: {error}")
    if asked.port is not None:
        return serve(predict, asked.port)
    try:
        with asked.input.open("rb") as stream:
            found = predict(stream)
    except BAD as error:
        sys.exit(f"error: {asked.input}: {error}")
    with asked.output.open("wb") as stream:
        np.save(stream, found)
    print(f"wrote {asked.output}")


if __name__ == "__main__":
    main()
