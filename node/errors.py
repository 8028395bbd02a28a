"""Every error the node raises on purpose, in one tree.

Messages name attribute keywords, UIDs, file names and what was expected; never patient data, pixel
values or secrets, so that any of them may stand in a log or on a page.
"""

__all__ = [
    "AlreadyRunningError",
    "AuditChainError",
    "CharacterSetError",
    "ConfigError",
    "DeliveryError",
    "DicomError",
    "EvaluationError",
    "GeometryError",
    "HandlerError",
    "InferenceError",
    "InferenceLimitError",
    "MessageError",
    "ModelError",
    "ModelHashError",
    "ModelOutputError",
    "NotEvaluableError",
    "PixelError",
    "ProtocolError",
    "ReportError",
    "SenderError",
    "StoreError",
    "TemplateError",
    "UnreadableInstanceError",
    "WetreadError",
]


class WetreadError(Exception):
    """Base of every error the node raises on purpose."""


class ConfigError(WetreadError):
    """A setting is unknown, missing, of the wrong type or out of range; the message names the line."""


class AlreadyRunningError(WetreadError):
    """Another process of this node holds the store or the executor id."""


class StoreError(WetreadError):
    """The store cannot keep or find what was asked, or its content does not match its row."""


class AuditChainError(WetreadError):
    """The audit trail was changed, cut or re-ordered after it was written."""


class DicomError(WetreadError):
    """A DICOM object cannot be used as asked."""


class UnreadableInstanceError(DicomError):
    """An object cannot be parsed, or lacks an identifier every object must have."""


class PixelError(DicomError):
    """The pixels of an object cannot be decoded, or are not what its header says."""


class GeometryError(DicomError):
    """Instances do not form the geometry that was asked for."""


class CharacterSetError(DicomError):
    """Text cannot be written in the character set of the result."""


class ProtocolError(WetreadError):
    """A DICOM peer did not keep to the protocol, or we were asked for what the protocol forbids.

    Parameters
    ----------
    message
        What was expected and what was found.
    reason
        The reason the peer is given in an A-ABORT (PS3.8 9.3.8); 0 says none.
    """

    def __init__(self, message: str, *, reason: int = 0) -> None:
        super().__init__(message)
        self.reason = reason


class SenderError(WetreadError):
    """A sender did not say what it holds."""


class HandlerError(WetreadError):
    """A handler cannot be loaded, or returned something that is not an Analysis."""


class NotEvaluableError(WetreadError):
    """A gate refused the study; a first-class result, not a fault.

    Parameters
    ----------
    reason
        One plain English sentence for people, such as "the head is already stripped".
    key
        Its key in the report template's ``[reasons]``, so that it can be said in the site's language.
    """

    def __init__(self, reason: str, *, key: str = "") -> None:
        super().__init__(reason)
        self.key = key


class ModelError(WetreadError):
    """A model cannot be loaded or does not do what its manifest says."""


class ModelHashError(ModelError):
    """A model file is not the one its manifest names."""


class ModelOutputError(ModelError):
    """A model returned NaN, nothing, or a shape its manifest does not name."""


class InferenceError(WetreadError):
    """An analysis failed in its child process."""


class InferenceLimitError(InferenceError):
    """An analysis was stopped at its time or memory limit."""


class EvaluationError(WetreadError):
    """Labels, images or criteria are not what an evaluation needs; the message names the file."""


class TemplateError(WetreadError):
    """A report template has an unknown code, unit or key; the message names file and key."""


class ReportError(WetreadError):
    """A result object cannot be built or does not say what was found."""


class MessageError(WetreadError):
    """An HL7 message or acknowledgement cannot be parsed or built."""


class DeliveryError(WetreadError):
    """A destination did not take an output.

    Parameters
    ----------
    message
        What was expected and what was found.
    is_permanent
        True if the same bytes will never be taken (the peer refused the content), so that trying
        again is useless and the delivery is a dead letter.
    least_wait_s
        How long the destination itself asked us to wait before we try again; 0 if it did not.
    """

    def __init__(self, message: str, *, is_permanent: bool = False, least_wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent
        self.least_wait_s = least_wait_s
