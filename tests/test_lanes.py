"""How stages are dealt out to lanes; that lanes make what one `dvc repro` makes is tests/test_pipeline.py's."""

import itertools
import sys
from pathlib import Path

import yaml

from nonconvex import lanes

STAGES = yaml.safe_load((Path(__file__).resolve().parents[1] / "dvc.yaml").read_text())["stages"]


def test_the_chains_are_the_readings_and_the_connectivity():
    found = lanes.chains(STAGES)
    assert found[0] == "connectivity" and len(found) == len(set(found))
    assert sum(name.startswith("study-") for name in STAGES) == len(found) - 1
    assert not {"verdicts", "tables", "figures", "settings", "train"} & set(found)


def test_every_chain_is_in_one_lane_and_the_lanes_are_even():
    names = [f"chain-{i}" for i in range(9)]
    for count in (1, 2, 3):
        dealt = lanes.dealt(names, count)
        assert sorted(itertools.chain(*dealt)) == names
        loads = [len(lane) + 2 * (names[0] in lane) for lane in dealt]
        assert max(loads) - min(loads) <= 1
    assert lanes.dealt(names[:1], 4) == [names[:1]]


def test_all_lanes_end_before_a_failure_is_told(monkeypatch, tmp_path):
    """The slow one finishes its work although the other has failed at once."""
    late = tmp_path / "late"
    slow = f"import time, pathlib; time.sleep(0.3); pathlib.Path({str(late)!r}).touch()"
    codes = {"fails": "raise SystemExit(3)", "slow": slow}
    start = lanes.subprocess.Popen
    monkeypatch.setattr(lanes.subprocess, "Popen", lambda command: start([sys.executable, "-c", codes[command[-1]]]))
    assert lanes.together([["fails"], ["slow"]]) == 3 and late.exists()
    assert lanes.together([["slow"]]) == 0
