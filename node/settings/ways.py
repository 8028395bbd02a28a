"""The other ways in which results leave: a DICOMweb archive, Orthanc, a web service, a folder."""

from dataclasses import dataclass
from enum import StrEnum

from node.domain.work import STANDARD_KINDS, OutputKind

__all__ = [
    "FolderDestination",
    "HttpDestination",
    "OrthancDestination",
    "Secret",
    "StowDestination",
    "Verify",
    "WebDestination",
]


class Verify(StrEnum):
    """How it is made sure that a destination has what it took; `AUTO` takes the best that it offers."""

    AUTO = "auto"
    COMMITMENT = "commitment"
    FIND = "find"
    NONE = "none"


class Secret:
    """A password or token from the environment; nothing prints it, only `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        """Keep it; "" if there is none."""
        self._text = text

    def __repr__(self) -> str:
        """Say only whether there is one."""
        return "Secret('***')" if self._text else "Secret('')"

    def __bool__(self) -> bool:
        """True if there is one."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """True for the same secret."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """As equality wants it."""
        return hash(self._text)

    def reveal(self) -> str:
        """What it is, for the one who sends it."""
        return self._text


NO_SECRET = Secret()


@dataclass(frozen=True, slots=True)
class StowDestination:
    """An archive that takes result objects by STOW-RS; `url` is the root of its DICOMweb service.

    `secret_variable` names the environment variable with the password of `user` or, without a user, with a bearer
    token; `secret` is what it held at the start. An empty `tls_authorities` trusts those of the system.
    """

    name: str
    url: str
    objects: tuple[OutputKind, ...] = STANDARD_KINDS
    language: str = ""
    timeout_s: float = 30.0
    user: str = ""
    secret_variable: str = ""
    tls_authorities: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    verify: Verify = Verify.AUTO
    secret: Secret = NO_SECRET

    @property
    def address(self) -> str:
        """Where it is."""
        return self.url


@dataclass(frozen=True, slots=True)
class OrthancDestination:
    """An Orthanc that takes result objects over its own REST interface; see `StowDestination`."""

    name: str
    url: str
    objects: tuple[OutputKind, ...] = STANDARD_KINDS
    language: str = ""
    timeout_s: float = 30.0
    user: str = ""
    secret_variable: str = ""
    tls_authorities: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    verify: Verify = Verify.AUTO
    secret: Secret = NO_SECRET

    @property
    def address(self) -> str:
        """Where it is."""
        return self.url


@dataclass(frozen=True, slots=True)
class HttpDestination:
    """A web service that takes JSON or FHIR by POST to `url`; see `StowDestination`."""

    name: str
    url: str
    objects: tuple[OutputKind, ...] = (OutputKind.JSON,)
    language: str = ""
    timeout_s: float = 30.0
    user: str = ""
    secret_variable: str = ""
    tls_authorities: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    secret: Secret = NO_SECRET

    @property
    def address(self) -> str:
        """Where it is."""
        return self.url


@dataclass(frozen=True, slots=True)
class FolderDestination:
    """A folder that is there already, such as a share of another system, in which results are put as files."""

    name: str
    path: str
    objects: tuple[OutputKind, ...] = STANDARD_KINDS
    language: str = ""

    @property
    def address(self) -> str:
        """Where it is."""
        return self.path


WebDestination = StowDestination | OrthancDestination | HttpDestination
