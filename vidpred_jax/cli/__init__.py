"""The commands, one file each; `scripts/` are shims on them."""
