"""Cards of weights: made from an evaluation, checked, and named wherever weights are."""

import json

import pytest
from commands import succeed

from vidpred_jax.checkpoints import cards
from vidpred_jax.types import InputError

PAIR = {"fusion": "runs/a", "translator": "runs/b"}
CARD = {
    "description": "Weights for a test.",
    "data": "sprites, drawn by the package",
    "terms": "none",
    "commands": ["make demo"],
    "seconds": 60,
}


def summary(runs=None, **rows):
    """A summary.json of {row: (PSNR, LPIPS)}."""
    metrics = lambda psnr, lpips: {"psnr": {"mean": psnr}, "lpips": {"mean": lpips}}
    predictors = {name.replace("_", " "): metrics(*pair) for name, pair in rows.items()}
    predictors = {f"x, {n}" if n != "x" else n: found for n, found in predictors.items()}
    about = {"runs": {"x": list(runs or PAIR.values())}, "data": "sprites test", "table": "held-out"}
    return {"predictors": predictors, **about}


def test_what_is_lost_without_each_network_by_hand():
    rows = dict(no_networks=(24.0, 0.05), no_stage_1=(24.95, 0.041), no_stage_2=(24.0, 0.05))
    card = cards.make(CARD, summary(x=(25.0, 0.04), **rows), PAIR)
    assert card["networks"] == {
        "fusion": {"psnr": 0.05, "lpips": 0.025},
        "translator": {"psnr": 1.0, "lpips": 0.25},
    }
    assert card["figures"] == {"data": "sprites test", "table": "held-out", "psnr": 25.0, "lpips": 0.04}
    assert [cards.adds(x) for x in card["networks"].values()] == [True, True]


def test_networks_that_add_less_are_left_out():
    rows = dict(no_networks=(24.91, 0.0407), no_stage_1=(25.0, 0.04), no_stage_2=(24.91, 0.0407))
    with pytest.raises(InputError, match="no network adds 0.1 dB or 2% .* alone"):
        cards.make(CARD, summary(x=(25.0, 0.04), **rows), PAIR)
    rows["no_stage_2"] = (24.9, 0.04)
    assert cards.make(CARD, summary(x=(25.0, 0.04), **rows), PAIR)["networks"] != "none"
    alone = summary(["p"], x=(25.0, 0.04))
    assert cards.make(CARD, alone, {"proposal": "p"})["networks"] == "none"
    two = summary(["p"], x=(25.0, 0.04))
    for at, psnr in (("0", 25.0), ("1", 24.0)):
        two["predictors"] |= {
            f"{name}, clarity {at}": {"psnr": {"mean": psnr + extra}, "lpips": {"mean": 0.04}}
            for name, extra in (("x", 0), ("xx", 1), ("big", 2))  # Other runs, and the same at another size.
        }
    two["runs"] = {
        row: ["q" if row.startswith("xx") else "p"] for row in two["predictors"] if "clarity" in row
    }
    figures = cards.make(CARD, two, {"proposal": "p"})["figures"]
    about = {"data": "sprites test", "table": "held-out"}
    at = lambda psnr: {"psnr": psnr, "lpips": 0.04}
    assert figures == {**about, "clarity 0": at(25.0), "clarity 1": at(24.0)}
    with pytest.raises(InputError, match="the evaluation of networks needs --ablate"):
        cards.make(CARD, summary(x=(25.0, 0.04)), PAIR)
    for runs in (PAIR, {"proposal": "q"}):  # Of other runs.
        with pytest.raises(InputError, match="the evaluation must be of .*, with lpips among"):
            cards.make(CARD, alone, runs)
    del alone["predictors"]["x"]["lpips"]
    with pytest.raises(InputError, match="the evaluation must be of p, with lpips among"):
        cards.make(CARD, alone, {"proposal": "p"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("terms"), "needs terms, one of description, data"),
        (lambda x: x.update(commands="make"), "needs commands"),
        (lambda x: x.update(networks="few"), r"networks \('few'\) must be none or a group"),
        (lambda x: x.update(networks={"fusion": {"psnr": 1}}), "networks.fusion needs the numbers"),
        (
            lambda x: x.update(networks={"fusion": {"psnr": 0.09, "lpips": 0.01}}),
            "networks that add less than 0.1 dB and 2% of LPIPS are none",
        ),
    ],
)
def test_cards_that_are_refused(change, message, tmp_path):
    card = {**CARD, "figures": {}, "networks": "none"}
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card))
    assert cards.read_file(path) == card
    change(card)
    path.write_text(json.dumps(card))
    with pytest.raises(InputError, match=message):
        cards.read_file(path)


def test_the_weights_of_the_package_have_cards():
    assert set(cards.names()) == {"moving_mnist", "real", "sprites", "sprites_networks"}
    for name in cards.names():
        card = cards.read(name)
        alone = card["networks"] == "none"
        assert cards.describe(name) == name + " (proposals only, no network)" * alone
        assert cards.runs_of(name) and card["seconds"] > 0 and card["commands"]


def test_weights_are_saved_with_their_card(trained, tmp_path):
    runs = ",".join(str(trained / stage) for stage in ("fusion", "translator"))
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    (tmp_path / "evaluation").mkdir()
    rows = dict(no_networks=(24.0, 0.05), no_stage_1=(24.95, 0.041), no_stage_2=(24.0, 0.05))
    found = summary(runs.split(","), x=(25.0, 0.04), **rows)
    (tmp_path / "evaluation" / "summary.json").write_text(json.dumps(found))
    flags = (f"--card={tmp_path / 'card.json'}", f"--evaluation={tmp_path / 'evaluation'}")
    succeed("scripts/export.py", f"--runs={runs}", *flags, f"--output={tmp_path / 'w'}")
    assert {f.name for f in (tmp_path / "w").iterdir()} == {"card.json", "fusion", "translator"}
    assert cards.read_file(tmp_path / "w" / "card.json")["networks"]["translator"]["psnr"] == 1.0
