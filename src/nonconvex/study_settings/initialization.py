"""Settings of the study of initialization."""

from nonconvex.study_settings.base import Study


class Initialization(Study):
    """To be filled."""
