"""Settings of the studies behind the rows of the text's tables, one class each."""

from nonconvex.axes import Axis, Seeds


class Study(Axis):
    """`seeds` are the replicates that are reported; whatever is tuned is tuned on `tuning` seeds."""

    seeds: Seeds
    tuning: Seeds = (1000,)


class FlatVsSharp(Study):
    pass


class ModeConnectivity(Study):
    pass


class LinearConnectivity(Study):
    pass


class EdgeOfStability(Study):
    pass


class Landscape(Study):
    pass


class ProgressiveSharpening(Study):
    pass


class CriticalPoints(Study):
    pass


class PacBayes(Study):
    pass


class Properties(Axis):
    """The rows of the text's first table, and its prose on saddles and on PAC-Bayes."""

    flat_vs_sharp: FlatVsSharp
    mode_connectivity: ModeConnectivity
    linear_connectivity: LinearConnectivity
    edge_of_stability: EdgeOfStability
    landscape: Landscape
    progressive_sharpening: ProgressiveSharpening
    critical_points: CriticalPoints
    pac_bayes: PacBayes
