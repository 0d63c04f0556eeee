"""How stages are dealt out to lanes; that lanes make what one `dvc repro` makes is tests/test_pipeline.py's."""

import itertools
import sys
from pathlib import Path

import yaml

from nonconvex import lanes

STAGES = yaml.safe_load((Path(__file__).resolve().parents[1] / "dvc.yaml").read_text())["stages"]


def test_the_chains_are_the_studies_with_their_readings_and_the_grid():
    found = lanes.chains(STAGES)
    assert found[0] == ("train", "connectivity")
    names = list(itertools.chain(*found))
    assert len(names) == len(set(names)) and set(names) == set(STAGES) - {
        "settings", "data", "verdicts", "tables", "figures", "report", "minimal", "common-mistakes"
    }  # fmt: skip
    assert all(first.startswith("study-") for first, *_ in found[1:])
    assert not any(name.startswith("study-") for _, *readings in found[1:] for name in readings)


def test_every_chain_is_in_one_lane_and_the_lanes_are_even():
    chains = [(f"a-{i}", f"b-{i}") for i in range(9)]
    for count in (1, 2, 3):
        dealt = lanes.dealt(chains, count)
        assert sorted(itertools.chain(*dealt)) == sorted(itertools.chain(*chains))
        assert all(lane[lane.index(f"a-{i}") + 1] == f"b-{i}" for lane in dealt for i in range(9) if f"a-{i}" in lane)
        loads = [len(lane) // 2 + 2 * ("a-0" in lane) for lane in dealt]
        assert max(loads) - min(loads) <= 1
    assert lanes.dealt(chains[:1], 4) == [["a-0", "b-0"]]


def test_all_lanes_end_before_a_failure_is_told(monkeypatch, tmp_path):
    """The slow one finishes its work although the other has failed at once."""
    late = tmp_path / "late"
    slow = f"import time, pathlib; time.sleep(0.3); pathlib.Path({str(late)!r}).touch()"
    codes = {"fails": "raise SystemExit(3)", "slow": slow}
    start = lanes.subprocess.Popen
    monkeypatch.setattr(lanes.subprocess, "Popen", lambda command: start([sys.executable, "-c", codes[command[-1]]]))
    assert lanes.together([["fails"], ["slow"]]) == 3 and late.exists()
    assert lanes.together([["slow"]]) == 0
