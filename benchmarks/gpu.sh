#!/usr/bin/env bash
# Trains the networks for Moving MNIST for as long as an accelerator is at hand, then measures them.
#
#   benchmarks/gpu.sh MINUTES FOLDER IDX        # IDX: an MNIST images file, as of scripts/prepare.py
#
# FOLDER gets data/, runs/ and evaluation/. Each training takes its share of the minutes: a few steps measure the
# rate, and the schedule is as long as what is left allows. BATCH (64) clips a step; 4 is the presets' on a CPU.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
minutes=$1 folder=$2 idx=$3 batch=${BATCH:-64} python=${PYTHON:-python}
cd "$(dirname "$0")/.."

train() { # SHARE NAME CONFIG [FLAG...]
    local share=$1 name=$2 config=$3 run="$folder/runs/$2" steps
    shift 3
    local command=("$python" -m vidpred_jax.train "--config=configs/$config.py:moving_mnist"
        "--config.data.data_dir=$folder/data" "--config.batch_size=$batch" "$@")
    "${command[@]}" --config.num_steps=200 --config.log_every=50 --workdir="$run.probe"
    steps=$("$python" - "$run.probe/metrics.jsonl" "$minutes" "$share" <<'PYTHON'
import json, sys
path, minutes, share = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
rates = [line["steps_per_second"] for line in map(json.loads, open(path)) if "steps_per_second" in line]
print(max(400, int(60 * minutes * share * rates[-1])))
PYTHON
    )
    rm -r "$run.probe"
    "${command[@]}" --config.num_steps="$steps" --config.log_every=100 --workdir="$run"
}

[ -d "$folder/data/moving_mnist" ] ||
    "$python" scripts/prepare.py --moving_mnist --idx="$idx" --data_dir="$folder/data"
train 0.45 fusion fusion
train 0.10 translator translator --config.fusion_run="$folder/runs/fusion"
train 0.35 direct direct
"$python" scripts/evaluate.py --data=moving_mnist --data_dir="$folder/data" --split=test --horizon=10 --ablate \
    --runs=ours="$folder/runs/fusion,$folder/runs/translator" --runs=direct="$folder/runs/direct" \
    --metrics=mse_openstl,mae_openstl,ssim_openstl,psnr,ssim --output="$folder/evaluation"
