"""Which UID a result gets: the same for the same content, another for any other.

An archive answers Success to changed content under a known SOP Instance UID and silently keeps the
old object, so a UID stands for all that its object says, except the time it was made.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from node import __version__
from node.dicom.uid import derive_uid
from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.study import Instance, Order, Study
from node.domain.work import OutputKind
from node.report.template import Template
from node.settings import ReportSettings

__all__ = ["Identity", "array_digest", "identify", "tracking_uid"]

NO_TIME = datetime.fromtimestamp(0, tz=UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the UIDs of one Report are made of; `content` is a digest of all that it says and was made from."""

    study_instance_uid: str
    generation: int
    algorithm: str
    version: str
    content: str

    def series_uid(self, kind: OutputKind) -> str:
        """One Series for each Study, generation, algorithm, version and kind of object."""
        parts = (self.study_instance_uid, str(self.generation), self.algorithm, self.version, kind.value)
        return derive_uid("series", *parts)

    def sop_uid(self, kind: OutputKind, index: int = 1, picture: str = "") -> str:
        """UID of one object; `picture` stands for the pixels that only this object holds."""
        return derive_uid("instance", self.study_instance_uid, self.content, kind.value, str(index), picture)


def identify(
    analysis: Analysis,
    statement: Statement,
    template: Template,
    study: Study,
    settings: ReportSettings,
    *,
    order: Order | None = None,
) -> Identity:
    """Derive what the UIDs of a Report are made of.

    An `order` that did not come with the images counts, as they do. The time of the statement does not: the same
    analysis, stated again after a crash, gets the same UIDs.
    """
    algorithm = analysis.algorithm
    content = (
        __version__,
        study.study_instance_uid,
        study.generation,
        algorithm.name,
        algorithm.version,
        algorithm.weights_sha256,
        algorithm.parameters,
        template.revision,
        _inputs(study.instances, analysis.source_uids),
        repr(settings),
        repr(replace(statement, made_at=NO_TIME)),
        [(heat_map.sop_instance_uid, heat_map.frame_number) for heat_map in analysis.heat_maps],
        *(() if order is None else (repr(order),)),
    )
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Identity(study.study_instance_uid, study.generation, algorithm.name, algorithm.version, digest)


def tracking_uid(study_instance_uid: str, algorithm: str, finding_id: str) -> str:
    """UID of a finding, stable across re-runs, so that feedback can name it (PS3.16 TID 4108)."""
    return derive_uid(study_instance_uid, algorithm, finding_id)


def array_digest(*arrays: npt.NDArray[np.generic]) -> str:
    """SHA-256 over type, shape and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _inputs(instances: Iterable[Instance], source_uids: tuple[str, ...]) -> list[tuple[str, str]]:
    wanted = frozenset(source_uids)
    return sorted((item.sop_instance_uid, item.digest) for item in instances if item.sop_instance_uid in wanted)
