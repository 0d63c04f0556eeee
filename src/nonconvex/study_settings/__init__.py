"""Settings of the studies behind the rows of the text's tables and its prose: a module a study, a section a table."""

from nonconvex.axes import Axis
from nonconvex.study_settings.implicit_regularization import ImplicitRegularization
from nonconvex.study_settings.initialization import Initialization
from nonconvex.study_settings.noise_scale import NoiseScale
from nonconvex.study_settings.normalization import Normalization
from nonconvex.study_settings.overparameterization import Overparameterization
from nonconvex.study_settings.progressive_learning import ProgressiveLearning
from nonconvex.study_settings.properties import Properties
from nonconvex.study_settings.rate_importance import RateImportance
from nonconvex.study_settings.sgd_noise import SgdNoise
from nonconvex.study_settings.skip_connections import SkipConnections
from nonconvex.study_settings.three_phases import ThreePhases

__all__ = ["Factors", "Properties", "Rates"]


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
