"""An evaluation's files; the page opens in a real browser with every figure and clip loaded."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support import wait

from vidpred_jax.data import pipeline
from vidpred_jax.evaluation import compare, page, report
from vidpred_jax.metrics import named
from vidpred_jax.proposals import naive
from vidpred_jax.types import InputError

NAIVE, LESSER = ("copy_last", "blur"), "ours, no stage 1"


@pytest.fixture(scope="module")
def written(tmp_path_factory, clip):
    """A folder with the report of two clips."""
    whole = pipeline.to_batch_element(clip, (64, 64))
    windows = [(name, 0, {k: v[:24] for k, v in whole.items()}) for name in ("a <b>", "c")]
    future = {field: whole[field][16:24] for field in ("frames", "fusion")}
    ours = lambda seen: {k: np.stack([255 - x] * len(seen)) for k, x in future.items()}
    lesser = lambda seen: {"frames": ours(seen)["frames"] // 2}
    table = compare.compare(
        windows,
        {"ours": ours, LESSER: lesser, **naive.predictors(8, NAIVE)},
        context=16,
        metrics={m: named.METRICS[m] for m in ("psnr", "ssim", "ssim_paper", "edge_f1")},
        show={("a <b>", 0), ("c", 0)},
    )
    folder = tmp_path_factory.mktemp("report")
    curve = {"metric": "ssim_paper", "label": "dance", "steps": [1, 2], "values": [0.9, 0.8]}
    even = {"low": 1.5, "high": 20.25}
    fvd = {name: {"value": 12.5, "videos": 2, "frames": 8, **even} for name in ("ours", "blur")}
    fvd["ours"]["against"], fvd["blur"]["against"] = {"blur": {"mean": -31.5, **even}}, {}
    about = {"data": "sprites", "command": "a & b"}
    options = {"naive": NAIVE, "variants": {LESSER: "ours"}, "fvd": fvd, "reference": [curve]}
    report.write(folder, table, about, **options)
    return folder


def test_files(written):
    names = {path.name for path in written.iterdir()}
    curves = {f"{m}.png" for m in ("psnr", "ssim", "ssim_paper", "edge_f1", "ablation")}
    assert names == {".written.json", "per_step.csv", "summary.json", "index.html", "strips", *curves}
    rows = list(csv.DictReader((written / "per_step.csv").open()))
    assert tuple(rows[0]) == report.CSV_COLUMNS
    assert len(rows) == 8 * (4 * 3 + 1)  # Fusion metrics for ours alone.
    assert {(row["n_clips"], row["n_windows"]) for row in rows} == {("2", "2")}
    summary = json.loads((written / "summary.json").read_text())
    assert summary["clips"] == 2 and summary["fvd"]["ours"]["value"] == 12.5
    blur = [row for row in rows if row["predictor"] == "blur" and row["metric"] == "ssim"]
    steps = [float(row["mean"]) for row in blur]
    assert steps == summary["predictors"]["blur"]["ssim"]["per_step"]
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in blur)


def test_differences_to_the_best_baseline(written):
    summary = json.loads((written / "summary.json").read_text())
    means = {name: x["psnr"]["mean"] for name, x in summary["predictors"].items()}
    entry = summary["differences"]["ours"]["psnr"]
    best = max(NAIVE, key=means.get)
    assert entry["against"] == best and entry["low"] <= entry["mean"] <= entry["high"]
    assert entry["mean"] == pytest.approx(means["ours"] - means[best], abs=1e-4)
    assert summary["differences"].keys() == {"ours", LESSER}
    assert summary["differences"][LESSER]["psnr"]["against"] == "ours"
    assert summary["differences"]["ours"].keys() == {"psnr", "ssim", "ssim_paper"}
    page = (written / "index.html").read_text()
    table = page.split("Paired differences over clips, 95 %")[1].split("</table>")[0]
    assert f">{entry['mean']:+.2f}<" in table and best in table and "<th>differences" not in page


def test_the_best_baseline_is_by_each_metric(tmp_path):
    """The least error and the most PSNR; where no value is the best, none is."""
    rows = {"a": (3.0, 20.0), "b": (1.0, 10.0), "ours": (2.0, 25.0)}
    values = {
        name: {m: np.full((2, 4), v, np.float32) for m, v in zip(("mse_openstl", "psnr"), found, strict=True)}
        for name, found in rows.items()
    }
    for name in ("a", "ours", "truth"):
        values.setdefault(name, {})["warp_error"] = np.ones((2, 4), np.float32)
    found = report.write(tmp_path, compare.Table(["x", "y"], values, []), {}, naive=("a", "b"))
    even = lambda x: {"mean": x, "low": x, "high": x}
    assert found["differences"] == {
        "ours": {"mse_openstl": {"against": "b", **even(1)}, "psnr": {"against": "a", **even(5)}}
    }
    variants = {"a": "ours"}  # A variant is compared with what it is one of.
    found = report.write(tmp_path, compare.Table(["x", "y"], values, []), {}, variants=variants)
    psnr = {"against": "ours", **even(-5)}
    assert found["differences"]["a"]["psnr"] == psnr and "b" not in found["differences"]
    alone = report.write(tmp_path, compare.Table(["x", "y"], values, []), {})
    assert "differences" not in alone


def test_strips_show_the_newest_frame_then_truth_ours_and_the_best_naive(written, clip):
    assert {p.name for p in (written / "strips").iterdir()} == {"a <b>_00000.png", "c_00000.png"}
    picture = np.asarray(Image.open(written / "strips" / "c_00000.png"))
    frames = pipeline.to_batch_element(clip, (64, 64))["frames"]
    summary = json.loads((written / "summary.json").read_text())["predictors"]
    best = max(NAIVE, key=lambda name: summary[name]["psnr"]["mean"])
    found = naive.BASELINES[best](frames[:16], 8)
    ours = 255 - frames[16:24]
    rows = [frames[16:24], ours, ours // 2, np.asarray(found)]
    side, top, steps = 128, 18, (0, 1, 4, 8)
    left = picture.shape[1] - len(steps) * side
    assert picture.shape[0] == top + len(rows) * side
    for row, video in enumerate(rows):
        for column, step in enumerate(steps):
            y, x = top + row * side, left + column * side
            found = picture[y : y + side : 2, x : x + side : 2]
            np.testing.assert_array_equal(found, video[step - 1] if step else frames[15])


def test_metrics_of_fusion_pictures_alone_make_strips_too(tmp_path, clip):
    frames = clip.frames[:24]
    shown = {"clip": "a", "start": 0, "context": frames[:16], "truth": frames[16:]}
    predictions = {"ours": frames[16:], "mean": np.full((8, 64, 64, 3), 99.6, np.float32)}
    rows = {"edge_f1": np.full((1, 8), 0.5, np.float32)}
    table = compare.Table(["a"], {"ours": rows}, [{**shown, "predictions": predictions}])
    entry = {**shown, "clip": "c", "predictions": predictions}
    other = compare.Table(["c"], {"ours": {"ssim": rows["edge_f1"]}}, [entry])
    report.write(tmp_path / "b", other, {"data": "x"}, naive=("mean",))
    (tmp_path / "b" / "strips" / "mine.png").write_bytes(b"a user's own")
    report.write(tmp_path / "b", table, {"data": "x"}, naive=("mean",))
    assert not (tmp_path / "b" / "ssim.png").exists()  # Of the call before.
    path, mine = sorted((tmp_path / "b" / "strips").iterdir())
    assert mine.read_bytes() == b"a user's own"
    assert path.name == "a_00000.png" and (np.asarray(Image.open(path))[-1, -1] == 100).all()


def test_metrics_that_no_stage_shares_make_no_figure_of_ablation(tmp_path):
    rows = {"ssim": np.full((1, 8), 0.5, np.float32)}
    table = compare.Table(["a"], {"ours": rows, "truth": {"warp_error": rows["ssim"]}}, [])
    report.write(tmp_path, table, {"data": "x"}, variants={"ours, no stage 1": "ours"})
    names = {path.name for path in tmp_path.iterdir()}
    curves = {"ssim.png", "warp_error.png"}
    assert names == {".written.json", "per_step.csv", "summary.json", "index.html", *curves}
    rows = list(csv.DictReader((tmp_path / "per_step.csv").open()))
    assert {row["low"] for row in rows} == {""}  # One clip has no interval.


def test_the_choice_of_clarity_is_drawn_where_there_is_one(tmp_path):
    """A row that begins as one of a clarity, such as a variant of it, is a point of its own."""
    value = lambda x: {m: np.full((2, 4), x, np.float32) for m in ("psnr", "lpips")}
    rows = {"r, clarity 0": value(0.5), "r, clarity 1": value(0.2), "r, clarity 1, laplacian": value(0.3)}
    report.write(tmp_path, compare.Table(["x", "y"], {**rows, "blur": value(0.8)}, []), {}, naive=("blur",))
    assert images_of(tmp_path) == {"psnr.png", "lpips.png", "choice.png"}
    del rows["r, clarity 0"]
    report.write(tmp_path, compare.Table(["x", "y"], rows, []), {})
    assert images_of(tmp_path) == {"psnr.png", "lpips.png"}


def images_of(folder):
    return {path.name for path in folder.glob("*.png")}


def test_page_needs_no_network_and_escapes_what_it_shows(written):
    page = (written / "index.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)
    assert "a &lt;b&gt;" in page and "a <b>" not in page and "a &amp; b" in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.skipif(
    not shutil.which("chromedriver"), reason="chromedriver is missing (Debian: chromium-driver)"
)
@pytest.mark.parametrize("width", [400, 1400])
def test_page_in_a_browser(width, browser, written, tmp_path):
    """An evaluation's, and a prediction's made of a clip of it: all is there, plays, nothing is cut off."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 48, 80, 3)).astype(np.uint8)
    clip = page.clip("a <b>", [("observed", "", frames), ("predicted", "20 dB", frames)], 25.0, 25.0)
    (tmp_path / "b.html").write_text(page.prediction("t", "told", [clip], {}, {}, {"data": "x" * 300}))
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert opened(browser, tmp_path / "b.html") == (2, 0, width, width)
    # Two clips of context, truth and four predictors; five figures.
    assert opened(browser, written / "index.html") == (12, 5, width, width)


def opened(browser, path):
    """(videos that loaded, pictures, width of the window, of what it holds) of a page that plays silently."""
    ask = lambda what: browser.execute_script(f"return {what}")
    until = lambda holds: wait.WebDriverWait(browser, 120).until(lambda _: holds())
    shown = lambda: ask("document.querySelector('output').textContent")
    browser.get(path.as_uri())
    until(lambda: ask("[...document.querySelectorAll('video')].every(v => v.readyState >= 2 || v.error)"))
    first = shown()
    until(lambda: shown() != first)
    assert not browser.get_log("browser")
    return tuple(
        ask(what)
        for what in (
            "[...document.querySelectorAll('video')].filter(v => v.videoWidth).length",
            "[...document.images].filter(i => i.naturalWidth).length",
            "innerWidth",
            "Math.max(innerWidth, document.documentElement.scrollWidth)",
        )
    )


def test_reference_curves(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text(
        "sequence,metric,curve,time_step,value\n"
        "dance,PSNR,ours,16,26.0\ndance,PSNR,ours,17,24.5\ndance,SSIM,ours,16,.9\nship,PSNR,x,16,29\n"
    )
    found = report.read_reference(path, "dance")
    assert [(c["metric"], c["steps"], c["values"]) for c in found] == [
        ("psnr", [1, 2], [26.0, 24.5]),
        ("ssim_paper", [1], [0.9]),
    ]
    assert found[0]["label"] == "dance ours (published, in-sample)"
    assert len(report.read_reference(path)) == 3
    with pytest.raises(InputError, match="holds no curve of sequence 'bike'"):
        report.read_reference(path, "bike")
    path.write_text("metric,curve,step,value\nPSNR,a,1,2\nPSNR,a,two,3\n")
    with pytest.raises(InputError, match="line 3: columns metric .* are needed .ValueError"):
        report.read_reference(path)
    path.write_text("metric,curve,step,value\nLPIPS,a,1,2\n")
    with pytest.raises(InputError, match="line 2: .*KeyError: 'LPIPS'"):
        report.read_reference(path)
    with pytest.raises(InputError, match="cannot be read"):
        report.read_reference(tmp_path / "none.csv")
