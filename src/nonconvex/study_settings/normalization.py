"""Settings of the study of normalization."""

from nonconvex.study_settings.base import Study


class Normalization(Study):
    """To be filled."""
