"""Settings of the study of wsd."""

from nonconvex.study_settings.base import Study


class Wsd(Study):
    """To be filled."""
