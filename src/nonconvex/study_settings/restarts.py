"""Settings of the study of restarts."""

from nonconvex.study_settings.base import Study


class Restarts(Study):
    """To be filled."""
