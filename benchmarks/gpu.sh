#!/usr/bin/env bash
# Compares an accelerator's predictions with the CPU's, trains for as long as one is at hand, and measures.
#
#   benchmarks/gpu.sh MINUTES FOLDER IDX        # IDX: an MNIST images file, as of scripts/prepare.py
#   benchmarks/gpu.sh --dry FOLDER IDX          # the same on a CPU, a few steps of each
#
# FOLDER gets data/, runs/, evaluation/ and benchmark/; a data set `real` that is there already is trained on too. Each
# training takes its share of the minutes: a few steps measure the rate, and the schedule is as long as what is left
# allows. BATCH (64) clips a step; 4 is the presets' on a CPU.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
minutes=$1 folder=$2 idx=$3 batch=${BATCH:-64} python=${PYTHON:-python} probe=200 least=400
measured=(--sizes=128,256 --precisions=float32,bfloat16 --cases=stage_1_step,stage_2_step,rollout)
clips=0
if [ "$minutes" = --dry ]; then
    export JAX_PLATFORMS=cpu
    minutes=0 batch=2 probe=2 least=4 clips=2
    measured=(--sizes=32 --repeats=1 --cases=stage_1_step,stage_2_step,rollout --horizon=4 --widths=8,8 --generator_widths=8,8,8)
fi
folder=$(realpath -m "$folder") idx=$(realpath "$idx")
cd "$(dirname "$0")/.."

"$python" - <<'PYTHON'
import jax, numpy as np, vidpred_jax
for weights in ("sprites_networks", "moving_mnist", "real"):
    on_cpu, here = (vidpred_jax.load(weights, device=device) for device in ("cpu", jax.devices()[0]))
    frames = np.random.default_rng(0).integers(0, 256, (on_cpu.context, 4, 4, 3)).astype(np.uint8)
    frames = frames.repeat(on_cpu.size[0] // 4, 1).repeat(on_cpu.size[1] // 4, 2)
    one, other = (p.predict(frames, horizon=8).frames.astype(int) for p in (on_cpu, here))
    print(f"{weights}: {jax.devices()[0].device_kind} differs from the CPU by {np.abs(one - other).mean():.4f} of 255")
    assert np.abs(one - other).mean() < 1, weights
PYTHON

train() { # SHARE NAME CONFIG:PRESET [FLAG...]
    local share=$1 name=$2 config=$3 run="$folder/runs/$2" steps
    shift 3
    local command=("$python" -m vidpred_jax.train "--config=configs/$config" "--config.data.data_dir=$folder/data"
        "--config.batch_size=$batch" "--config.log_every=1" "--config.evaluation.clips=$((clips ? clips : 64))" "$@")
    "${command[@]}" --config.num_steps=$probe --config.log_every=$((probe / 2)) --workdir="$run.probe"
    steps=$("$python" - "$run.probe/metrics.jsonl" "$minutes" "$share" $least <<'PYTHON'
import json, sys
path, minutes, share, least = sys.argv[1], *map(float, sys.argv[2:])
rates = [line["steps_per_second"] for line in map(json.loads, open(path)) if "steps_per_second" in line]
print(int(max(least, 60 * minutes * share * rates[-1])))
PYTHON
    )
    rm -r "$run.probe"
    "${command[@]}" --config.num_steps="$steps" --config.log_every=$((steps < 100 ? 1 : 100)) --workdir="$run"
}

evaluate() { # DATA [FLAG...]
    "$python" scripts/evaluate.py --data="$1" --data_dir="$folder/data" --split=test --ablate --clips=$clips \
        --output="$folder/evaluation/$1" "${@:2}"
}

[ -d "$folder/data/moving_mnist" ] ||
    "$python" scripts/prepare.py --moving_mnist --idx="$idx" --data_dir="$folder/data"
train 0.25 fusion fusion.py:moving_mnist
train 0.05 translator translator.py:moving_mnist --config.fusion_run="$folder/runs/fusion"
train 0.20 direct direct.py:moving_mnist
train 0.15 sprites_fusion fusion.py:sprites
train 0.05 sprites_translator translator.py:sprites --config.fusion_run="$folder/runs/sprites_fusion"
evaluate moving_mnist --horizon=10 --runs=ours="$folder/runs/fusion,$folder/runs/translator" \
    --runs=direct="$folder/runs/direct" --metrics=mse_openstl,mae_openstl,ssim_openstl,psnr,ssim
evaluate sprites --runs=ours="$folder/runs/sprites_fusion,$folder/runs/sprites_translator"
if [ -d "$folder/data/real" ]; then
    train 0.10 real_proposal proposal.py:flow_blend --config.data.name=real
    train 0.10 real translator.py:real --config.proposal_runs="('$folder/runs/real_proposal',)"
    evaluate real --runs=ours="$folder/runs/real" --clarity=0,1
fi
"$python" benchmarks/benchmark.py "${measured[@]}" --data_dir="$folder/data" --output="$folder/benchmark"
