"""Settings of the study of sgd noise."""

from nonconvex.study_settings.base import Study


class SgdNoise(Study):
    """To be filled."""
