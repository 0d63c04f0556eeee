"""Settings of the study of bad starts."""

from nonconvex.study_settings.base import Study


class BadStarts(Study):
    """To be filled."""
