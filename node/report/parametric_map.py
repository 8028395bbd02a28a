"""Heat as numbers: a Parametric Map on the grid of the source images, for viewers that lay one over the other."""

import highdicom as hd
import numpy as np
import structlog
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ParametricMapStorage

from node.domain.findings import HeatMap
from node.domain.work import OutputKind
from node.report.grid import identify_sources, placed
from node.report.header import MAKER, Context, copy_body_part, result_header
from node.report.identity import array_digest
from node.report.settle import settle

__all__ = ["parametric_maps"]

log = structlog.get_logger(__name__)

LABEL = "HEAT"


def parametric_maps(context: Context, heat_maps: tuple[HeatMap, ...]) -> list[Dataset]:
    """Build Parametric Maps of heat maps: one object for each source Series and basis, a frame for each slice.

    Values are the heat, 0 to 1, as 32-bit floats with no unit. Heat of images that cannot be placed in the patient
    (see `grid.placed`) is left out with a warning: a heat map shows it.
    """
    groups: dict[tuple[str, str, tuple[int, ...], int], dict[tuple[str, int | None], HeatMap]] = {}
    for heat_map in heat_maps:
        series_uid = context.source.instance(heat_map.sop_instance_uid).series_instance_uid
        place = (heat_map.sop_instance_uid, context.source.frame_number(heat_map))
        layer = 0
        while place in groups.get((series_uid, heat_map.basis, heat_map.heat.shape, layer), {}):
            layer += 1
        groups.setdefault((series_uid, heat_map.basis, heat_map.heat.shape, layer), {})[place] = heat_map
    found = []
    for index, group in enumerate(groups.values(), start=1):
        ds = _map(context, list(group.values()), index)
        if ds is not None:
            found.append(ds)
    return found


def _map(context: Context, heat_maps: list[HeatMap], index: int) -> Dataset | None:
    uids = [one.sop_instance_uid for one in heat_maps]
    frame_numbers = [context.source.frame_number(one) for one in heat_maps]
    heat = np.stack([one.heat for one in heat_maps]).astype(np.float32)
    sources, planes, why_not = placed(context, uids, frame_numbers, heat)
    if why_not:
        study_instance_uid = context.source.study.study_instance_uid
        log.warning("parametric map left out", reason=why_not, study_instance_uid=study_instance_uid)
        return None
    header = result_header(
        context,
        OutputKind.PARAMETRIC_MAP,
        sop_class_uid=ParametricMapStorage,
        modality="OT",
        instance_number=index,
        picture=array_digest(planes) + repr((uids, frame_numbers)),
    )
    copy_body_part(header, context.source.image(uids[0]))
    identify_sources(sources, header)
    made = hd.pm.ParametricMap(
        source_images=sources,
        pixel_array=planes,
        series_instance_uid=header.SeriesInstanceUID,
        series_number=header.SeriesNumber,
        sop_instance_uid=header.SOPInstanceUID,
        instance_number=index,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=header.SoftwareVersions,
        device_serial_number=header.DeviceSerialNumber,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label=LABEL,
                lut_explanation=heat_maps[0].basis[:64],  # VR LO
                unit=codes.UCUM.NoUnits,
                value_range=(0.0, 1.0),
                slope=1.0,
                intercept=0.0,
                quantity_definition=codes.DCM.Saliency,
            )
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label=LABEL,
        content_description="AI heat, unverified, not for diagnosis",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
    )
    return settle(made, header)
