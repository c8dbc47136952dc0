"""The paper's figure: DAVIS `breakdance`, in-sample as its authors trained, shift 1, 16 frames seen.

The clip alone is the training data, its future included: these runs show what memory can do, and
their figures belong in no table of held-out clips. Both networks are plain: no proposals, no reference
frames. Stage 2 is trained on what stage 1 makes, without its GAN. docs/experiments.md.

mkdir -p one/frames one/masks
ln -sr DAVIS/JPEGImages/480p/breakdance one/frames/; ln -sr DAVIS/Annotations/480p/breakdance one/masks/
python scripts/prepare.py --input=one/frames --masks=one/masks --num_validation=0 --num_test=0 --name=breakdance
python -m vidpred_jax.train --config=configs/paper.py:fusion --workdir=runs/paper_fusion
python -m vidpred_jax.train --config=configs/paper.py:translator --workdir=runs/paper_translator --config.fusion_run=runs/paper_fusion
python scripts/evaluate.py --data=breakdance --split=train --runs=ours=runs/paper_fusion,runs/paper_translator \
    --start=10 --stride=1000 --horizon=16 --metrics=psnr,ssim,ssim_paper --reference=CURVES.csv

fusion, translator          128 x 128, for a CPU: 15 and 20 minutes of a core; PSNR 29.7 dB over the paper's steps
fusion_256, translator_256  the paper's size, for a GPU
"""  # noqa: E501

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("fusion", "translator", "fusion_256", "translator_256")


def get_config(preset: str = "fusion") -> ConfigDict:
    stage, _, large = presets.choose(preset, PRESETS).partition("_")
    config = presets.base(stage)
    presets.add_proposals(config)
    config.update(maps="picture", batch_size=1, ema_decay=0.99, save_every=500)
    config.precision = "tf32" if large else "float32"
    size = 256 if large else 128
    config.data.update(name="breakdance", height=size, width=size, future_frames=16)
    config.data.augmentation.update(flip=False, flip_vertical=False, transpose=False, reverse=False)
    config.optimizer.update(learning_rate=2e-3, b2=0.99)
    config.num_steps = 20_000 if large else 4000
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.evaluation = dict(every=1_000_000, clips=0, horizon=16)
    if stage == "fusion":
        config.optimizer.update(
            kind="muon", learning_rate=5e-3
        )  # By Adam its pictures were black for 400 steps.
        config.max_unroll = 4
        config.data.future_frames = 9
        config.model = dict(
            widths=(32, 64, 96),
            blocks=1,
            patch=4,
            time_patch=1,
            time_strides=(2, 2),
            shift=1,
            outputs=1,
            remat=False,
        )
        config.loss = dict(l1=1.0, ssim=0.1, adversarial=0.0, gan="bce")
    else:
        config.targets_per_clip = 3
        config.step_sampling_power = 1.0
        config.predicted_fraction = 0.9
        config.fusion_run = ""
        config.model = dict(
            widths=(32, 64, 128, 256), dropout=0.0, norm="group", reference_frames=0, head_features=32
        )
        config.loss = dict(l1=0.0, psnr=1.0, ssim=1.0, adversarial=0.0, gan="bce")
    return config
