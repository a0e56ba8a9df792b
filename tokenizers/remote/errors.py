"""What can go wrong between a trainer and a service. None of it is a ValueError: those are damaged media, and are skipped. Ours."""

from __future__ import annotations


class ServiceError(ConnectionError):
    """A service cannot be used; nothing is skipped because of that, the run ends with this message."""


class Unavailable(ServiceError):
    """This replica does not answer now; another one may, or the same one later."""


class Refused(ServiceError):
    """This replica cannot be right as it is: another fingerprint, a wrong token, another protocol."""


class ServiceFailed(RuntimeError):
    """The service failed over a medium that it should have encoded: a fault in it, not in the medium."""
