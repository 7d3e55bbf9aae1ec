"""The one exception that reaches a user as a single line."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and what to do; the binaries print it and exit with code 2."""
