"""Where a claim's numbers come from: the stages of dvc.yaml behind the notebook that reads them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

CONTRASTS = "src/nonconvex/contrasts/"


@dataclass(frozen=True)
class Reading:
    """What stands behind the effects of a notebook; paths are relative to the root of the repository."""

    stage: str
    observations: tuple[str, ...]  # folders of records that it reads
    studies: tuple[str, ...]  # names of the executed notebooks that made those records
    contrasts: tuple[str, ...]  # modules that turn the records into effects


def readings(root: Path, profile: str) -> dict[str, Reading]:
    """The stages that write effects, by the name of their notebook."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8").replace("${profile.name}", profile)
    stages = {name: stage for name, stage in yaml.safe_load(text)["stages"].items() if "cmd" in stage}
    makers = {out: name for name, stage in stages.items() for out in _outs(stage)}
    found = {}
    for name, stage in stages.items():
        for notebook in (match[1] for out in _outs(stage) if (match := re.search(r"/effects/(\w+)\.csv$", out))):
            observations = tuple(dep for dep in stage["deps"] if "/observations/" in dep)
            studies = (book for dep in observations for book in _notebooks(stages[makers[dep]]))
            modules = (dep for dep in stage["deps"] if dep.startswith(CONTRASTS) and not dep.endswith("/evidence.py"))
            found[notebook] = Reading(name, observations, tuple(dict.fromkeys(studies)), tuple(modules))
    return found


def _outs(stage: Mapping) -> Iterator[str]:
    for out in stage.get("outs", ()):
        yield out if isinstance(out, str) else next(iter(out))


def _notebooks(stage: Mapping) -> Iterator[str]:
    return (Path(out).stem for out in _outs(stage) if out.endswith(".ipynb"))
