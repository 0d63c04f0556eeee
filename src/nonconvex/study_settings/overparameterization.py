"""Settings of the study of overparameterization."""

from nonconvex.study_settings.base import Study


class Overparameterization(Study):
    """To be filled."""
