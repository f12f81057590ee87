"""Why there is no figure. Both are told in the report, and neither ends the benchmark."""


class Unavailable(Exception):
    """The peer cannot be had on this machine."""


class Failed(Exception):
    """A job was begun and did not come to its end."""
