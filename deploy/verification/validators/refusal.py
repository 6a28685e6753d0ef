"""What a check raises."""


class Refused(Exception):
    """What is wrong and where, for a person."""


class Missing(Exception):
    """Something that the check needs is not on this machine. In CI that is a failure if `required`."""

    def __init__(self, message, required):
        super().__init__(message)
        self.required = required
