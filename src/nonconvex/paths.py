"""Every file name in data/ and results/, each once, and how a file there is replaced."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` when the body has ended well, and else is deleted.

    Raises OSError naming `path`, which a full disk does not do by itself. Where the process is killed, what it leaves
    has a name (.*.part) that git and DVC ignore.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # of a folder that cannot be written, where there is nothing to delete
            partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Results:
    """The files of one profile, under `<root>/results/<profile>/`."""

    root: Path
    profile: str

    @property
    def folder(self) -> Path:
        """Of all that the profile commits."""
        return Path(self.root) / "results" / self.profile

    def runs(self, model: str, strategy: str) -> Path:
        """Rows of `records.Run`."""
        return self.folder / "runs" / f"{model}-{strategy}.csv"

    def curves(self, model: str, strategy: str) -> Path:
        """Rows of `records.CurvePoint`."""
        return self.folder / "curves" / f"{model}-{strategy}.csv"

    def measurements(self, model: str, strategy: str) -> Path:
        """Rows of `records.MeasurementRow`."""
        return self.folder / "measurements" / f"{model}-{strategy}.csv"

    def connectivity(self, model: str) -> Path:
        """Rows of `records.Barrier`."""
        return self.folder / "connectivity" / f"{model}.csv"

    def paths(self, model: str) -> Path:
        """Rows of `records.PathPoint`."""
        return self.folder / "paths" / f"{model}.csv"

    def endpoints(self, model: str, strategy: str) -> Path:
        """Trained weights that paths start and end at."""
        return self.folder / "endpoints" / f"{model}-{strategy}.safetensors"

    def checkpoints(self, model: str, strategy: str) -> Path:
        """Where an unfinished stage leaves what it will go on from: no result, so beside the logs."""
        return Path(self.root) / "logs" / "checkpoints" / self.profile / f"{model}-{strategy}"

    def data(self, model: str) -> Path:
        """Digest of the data that a model is trained and tested on."""
        return self.folder / "data" / f"{model}.json"

    def observations(self, study: str, name: str) -> Path:
        """Records of one kind that a study made; their types are in `nonconvex.observations`."""
        return self.folder / "observations" / study / f"{name}.csv"

    def effects(self, notebook: str) -> Path:
        """The contrasts of the claims that a notebook puts to the test (`records.Effect`)."""
        return self.folder / "effects" / f"{notebook}.csv"

    def gates(self, notebook: str) -> Path:
        """What the gates of those claims were measured to be (`records.GateValue`)."""
        return self.folder / "gates" / f"{notebook}.csv"

    def findings(self, notebook: str) -> Path:
        """What a property or factor notebook found, one row per quantity (`records.Finding`)."""
        return self.folder / "findings" / f"{notebook}.csv"

    def every(self, kind: str) -> list[Path]:
        """The files of a kind (effects, gates or findings) that exist, by name."""
        return sorted((self.folder / kind).glob("*.csv"))

    def validation(self, name: str) -> Path:
        """Records of runs that are held against published ones."""
        return self.folder / "validation" / f"{name}.csv"

    def tables(self, name: str, suffix: str) -> Path:
        """`suffix` is csv, md or tex."""
        return self.folder / "tables" / f"{name}.{suffix}"

    def figures(self, name: str, suffix: str = "png") -> Path:
        """`name` is <notebook>/<figure>, `suffix` is png, pdf or md (its caption)."""
        return self.folder / "figures" / f"{name}.{suffix}"

    def notebooks(self, name: str) -> Path:
        """The executed copy of a notebook."""
        return self.folder / "notebooks" / f"{name}.ipynb"

    def training(self, model: str, strategy: str) -> Path:
        """The executed notebook that trained and measured an arm's strategy."""
        return self.notebooks(f"train-{model}-{strategy}")

    def verdicts(self, suffix: str = "csv") -> Path:
        """`suffix` is csv, md or tex."""
        return self.folder / f"verdicts.{suffix}"

    @property
    def report(self) -> Path:
        """The page that shows a profile's tables, figures and provenance."""
        return self.folder / "report.md"

    @property
    def metrics(self) -> Path:
        """The headline numbers, as `dvc metrics` reads them."""
        return self.folder / "metrics.json"
