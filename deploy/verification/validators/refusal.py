"""What a check raises."""


class Refused(Exception):
    """What is wrong and where, for a person."""
