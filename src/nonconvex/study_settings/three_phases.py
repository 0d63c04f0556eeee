"""Settings of the study of three phases."""

from nonconvex.study_settings.base import Study


class ThreePhases(Study):
    """To be filled."""
