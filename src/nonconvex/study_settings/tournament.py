"""Settings of the study of tournament."""

from nonconvex.study_settings.base import Study


class Tournament(Study):
    """To be filled."""
