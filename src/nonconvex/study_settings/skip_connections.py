"""Settings of the study of skip connections."""

from nonconvex.study_settings.base import Study


class SkipConnections(Study):
    """To be filled."""
