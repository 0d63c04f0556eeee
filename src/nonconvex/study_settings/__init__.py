"""Settings of the studies behind the rows of the text's tables and its prose: a module a study, a section a table."""

from nonconvex.axes import Axis
from nonconvex.study_settings.averaging import Averaging
from nonconvex.study_settings.bad_starts import BadStarts
from nonconvex.study_settings.clipping import Clipping
from nonconvex.study_settings.implicit_regularization import ImplicitRegularization
from nonconvex.study_settings.initialization import Initialization
from nonconvex.study_settings.noise_scale import NoiseScale
from nonconvex.study_settings.normalization import Normalization
from nonconvex.study_settings.overparameterization import Overparameterization
from nonconvex.study_settings.progressive_learning import ProgressiveLearning
from nonconvex.study_settings.properties import Properties
from nonconvex.study_settings.rate_importance import RateImportance
from nonconvex.study_settings.restarts import Restarts
from nonconvex.study_settings.sam import Sam
from nonconvex.study_settings.sgd_noise import SgdNoise
from nonconvex.study_settings.skip_connections import SkipConnections
from nonconvex.study_settings.three_phases import ThreePhases
from nonconvex.study_settings.tournament import Tournament
from nonconvex.study_settings.warmup import Warmup
from nonconvex.study_settings.wsd import Wsd

__all__ = ["Factors", "Properties", "Rates", "Schedules", "Strategies"]


class Factors(Axis):
    """The rows of the text's second table."""

    overparameterization: Overparameterization
    sgd_noise: SgdNoise
    skip_connections: SkipConnections
    normalization: Normalization
    initialization: Initialization
    implicit_regularization: ImplicitRegularization
    progressive_learning: ProgressiveLearning


class Rates(Axis):
    """The text's prose about the learning rate: phases of a schedule, noise scale, importance."""

    three_phases: ThreePhases
    noise_scale: NoiseScale
    rate_importance: RateImportance


class Strategies(Axis):
    """The rows of the text's third table, and bad regions to start from."""

    bad_starts: BadStarts
    warmup: Warmup
    restarts: Restarts
    clipping: Clipping
    sam: Sam
    averaging: Averaging


class Schedules(Axis):
    """The rows of the text's fourth table."""

    tournament: Tournament
    wsd: Wsd
