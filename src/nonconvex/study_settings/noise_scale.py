"""Settings of the study of noise scale."""

from nonconvex.study_settings.base import Study


class NoiseScale(Study):
    """To be filled."""
