"""What can go wrong with a local cluster, each with what to do next."""


class LocalClusterError(Exception):
    """The message is for the user: what happened, and what to do about it."""
