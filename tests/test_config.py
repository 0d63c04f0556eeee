"""Bad settings: one clear error that names the key and what is allowed, before anything is built."""

import copy
import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nonconvex import check, config
from nonconvex.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]
GOOD = yaml.safe_load((ROOT / "profiles" / "smoke" / "params.yaml").read_text())


def changed(path: str, value) -> dict:
    """The smoke settings with one entry replaced or added."""
    content = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


def read(content, tmp_path):
    """Check settings as the pipeline does."""
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    found = config.read(path)
    check.check(found)
    return found


BAD = {
    "unknown key": (
        "train.resnet.stepz",
        5,
        r"train.resnet.stepz: unknown key \(did you mean steps\?\); allowed: dataset",
    ),
    "unknown schedule": ("grid.schedules", ["cosin"], "grid.schedules.0.*'cosine'.*found 'cosin'"),
    "unknown strategy": ("grid.strategies", ["none", "samm"], "grid.strategies.1.*'sam'.*found 'samm'"),
    "unknown model": ("grid.models", ["resnet", "lstm"], "grid.models.1.*'transformer'.*found 'lstm'"),
    "unknown dataset": ("train.resnet.dataset", "mnist", "train.resnet.dataset.*'mnist1d'.*found 'mnist'"),
    "negative rate": ("train.resnet.rates", [-0.1, 0.2], "train.resnet.rates.0.*greater than 0, found -0.1"),
    "infinite rate": ("train.resnet.rates", [0.1, float("inf")], "rates.1.*finite"),
    "falling rates": ("train.resnet.rates", [0.2, 0.1], "rates must rise"),
    "repeated seed": ("seeds.reported", [0, 1, 1], "reported holds 1 more than once"),
    "tuning seed reported": ("seeds.tuning", [0], r"tuning seeds must not be reported: \[0\]"),
    "cross seed unknown": ("seeds.cross", [7], "cross must be among the reported seeds"),
    "text for a number": ("train.resnet.steps", "many", "train.resnet.steps.*integer, found 'many'"),
    "baseline off the grid": ("grid.baseline", {"schedule": "step", "strategy": "none"}, "baseline must name"),
    "no section": ("measure", {"resnet": {}}, "measure has no section for transformer"),
    "huge number": ("train.resnet.steps", 10**18, "train.resnet.steps.*less than or equal to 1000000000"),
    "huge layer": (
        "train.resnet.architecture",
        {"width": 10**9},
        "architecture: width is 1e.09; allowed: at most 10000",
    ),
    "infinite option": (
        "train.resnet.strategies",
        {"sam": {"radius": float("nan")}},
        "radius is nan; allowed: at most",
    ),
    "root elsewhere": ("profile.root", "/etc", "profile.root.*found '/etc'"),
    "settings elsewhere": ("profile.params", "../../secret.yaml", "profile.params.*found"),
    "date for a number": ("seeds.fork", datetime.date(2020, 1, 1), "seeds.fork.*valid number"),
    "architecture option": (
        "train.resnet.architecture",
        {"widht": 8},
        "architecture.widht: unknown option; allowed: classes",
    ),
    "architecture value": ("train.resnet.architecture", {"depth": 9, "dimensions": 1}, "depth is 9; allowed: 6 n"),
    "strategy option": (
        "train.resnet.strategies",
        {"sam": {"rho": 1}},
        "strategies.sam.rho: unknown option; allowed: radius",
    ),
    "schedule option": (
        "train.resnet.schedules",
        {"cosine": {"flor": 0.1}},
        "schedules.cosine.flor: unknown option; allowed: floor",
    ),
    "optimizer option": ("train.transformer.optimizer", {"name": "adamw", "momentum": 0.9}, "momentum: unknown option"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused_by_name(name, tmp_path):
    path, value, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as caught:
        read(changed(path, value), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[", "a: b: c", "{}", "- 1", "grid: 3", "x: !!python/object:os.system {}", "a: 1\na: 2"]
)
def test_a_file_that_is_no_settings_at_all(text, tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml: "):
        read(text, tmp_path)


def test_good_profiles_pass():
    for path in (ROOT / "params.yaml", *ROOT.glob("profiles/*/params.yaml")):
        check.check(config.read(path))


def leaves(content, prefix=""):
    for key, value in content.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]


JUNK = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.lists(st.integers(), max_size=3), st.just({"a": 1})
)


@settings(max_examples=400, deadline=None)
@given(path=st.sampled_from(sorted(leaves(GOOD))), junk=JUNK)
def test_junk_is_refused_or_means_something(path, junk):
    """Any value at any place either reads as settings or is one ConfigError; nothing else is ever raised.

    What stands between a file and its content is tests/test_malformed_settings.py's.
    """
    try:
        config.validated(changed(path, junk), "params.yaml")
    except ConfigError as error:
        assert str(error).startswith("params.yaml: ") and str(error).isprintable()


def test_command_line_says_error_and_writes_nothing(tmp_path, capsys):
    file, stamp = tmp_path / "params.yaml", tmp_path / "stamp"
    file.write_text(yaml.safe_dump(changed("train.resnet.steps", -1)))
    assert check.main([str(file), "--stamp", str(stamp)]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not stamp.exists()
    file.write_text(yaml.safe_dump(GOOD))
    assert check.main([str(file), "--stamp", str(stamp)]) == 0 and stamp.exists()
