"""A fake object store: gs:// addresses are objects under $VIDPRED_FAKE_STORE, in every process that has this
folder in its PYTHONPATH. As in a store, nothing is renamed, appended to, or linked."""

import os

import fsspec
from fsspec.implementations.local import LocalFileSystem


class FakeStore(LocalFileSystem):
    protocol = ("gcs", "gs")
    cachable = False

    def __init__(self, **options):
        super().__init__(auto_mkdir=True)

    @classmethod
    def _strip_protocol(cls, path):
        path = os.fspath(path)
        root = os.environ["VIDPRED_FAKE_STORE"]
        return path.rstrip("/") if path.startswith(root) else f"{root}/{path.partition('://')[2]}".rstrip("/")

    def open(self, path, mode="rb", **options):
        if "a" in mode or "+" in mode:
            raise OSError(f"an object cannot be opened as {mode!r}")
        return super().open(path, mode, **options)

    def mv(self, *args, **options):
        raise OSError("an object cannot be renamed")

    mv_file = rename = link = symlink = mv


fsspec.register_implementation("gcs", FakeStore, clobber=True)
