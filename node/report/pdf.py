"""The readable report as a page: Encapsulated PDF, for people and archives that do not show structured reports.

The page is set by Typst from a template of ours (`page.typ`). What it says is handed over as data, so that no text
of a sender can become a command.
"""

import json
from pathlib import Path
from typing import Any, Literal

import typst
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage
from pylopdf_fonts_zh_cn import sans_path

from node.dicom.elements import number
from node.domain.findings import Region, Status
from node.domain.statement import StatedFinding
from node.domain.study import PersonName
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.capture import heat_digest, labelled, wanted_heat_maps
from node.report.concepts import code_item
from node.report.document import Predecessor, evidence, references
from node.report.glyphs import shown_in
from node.report.header import Context, result_header
from node.report.key_objects import KeyImage, key_images
from node.report.key_panel import key_panel
from node.report.key_source import key_picture
from node.report.orientation import opposite, patient_orientation
from node.report.page_words import MEASUREMENTS, PAGE_WORDS, SEXES, STATUS_WORDS
from node.report.words import WORDS

__all__ = ["page_pdf", "pdf_report"]

TEMPLATE = Path(__file__).with_name("page.typ")
MOST_KEY_IMAGES = 3
ARCHIVE_STANDARD: Literal["a-2b"] = (
    "a-2b"  # ISO 19005-2: fonts are in the file, and a character without a glyph is an error
)
Json = dict[str, Any]


def pdf_report(context: Context, predecessors: tuple[Predecessor, ...] = ()) -> Dataset:
    """Build object E, for every outcome.

    Raises
    ------
    ReportError
        If the page cannot be set.
    """
    kind = OutputKind.PDF
    shown = "".join(map(heat_digest, wanted_heat_maps(context)))
    ds = result_header(context, kind, sop_class_uid=EncapsulatedPDFStorage, modality="DOC", picture=shown)
    content = page_pdf(context)
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"  # the page names the patient
    ds.RecognizableVisualFeatures = "NO"
    study = evidence(context.source.study.study_instance_uid, context.source.evidence)
    ds.SourceInstanceSequence = [
        reference for series in study.ReferencedSeriesSequence for reference in series.ReferencedSOPSequence
    ]
    ds.DocumentTitle = context.statement.title
    ds.ConceptNameCodeSequence = [code_item(codes.LN.DiagnosticImagingReport)]
    ds.VerificationFlag = "UNVERIFIED"
    if predecessors:
        ds.PredecessorDocumentsSequence = [references(context.source.study.study_instance_uid, predecessors)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(content)
    ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return ds


def page_pdf(context: Context) -> bytes:
    """Set the page; the same statement made at the same time gives the same bytes."""
    data, panels = _data(context)
    fonts = typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(Path(sans_path()).parent)]
    )
    try:
        made = typst.compile(
            TEMPLATE.read_bytes(),
            sys_inputs={"data": json.dumps(shown_in(data)), **panels},
            font_paths=fonts,
            ignore_system_fonts=True,
            pdf_standards=[ARCHIVE_STANDARD],
            timestamp=int(context.made_at.timestamp()),
        )
    except RuntimeError as error:  # its messages may quote what the page says
        raise ReportError(f"the page cannot be set ({type(error).__name__})") from None
    return bytes(made)


def _data(context: Context) -> tuple[Json, dict[str, str]]:
    statement, language = context.statement, context.statement.language
    keys, panels = _keys(context)
    is_measured_only = bool(statement.findings) and not any(one.is_abnormal for one in statement.findings)
    status = MEASUREMENTS if is_measured_only else statement.status.value
    has_looked = statement.status in (Status.FINDINGS, Status.NO_FINDINGS)
    data = {
        "words": PAGE_WORDS[language],
        "status": status,
        "status_words": STATUS_WORDS[language][status],
        "title": statement.title,
        "institution": context.settings.institution,
        "patient": _patient(context),
        "study": _study(context),
        "conclusion": statement.conclusion,
        "correction": WORDS[language].correction if statement.is_correction else "",
        "findings": [
            {"number": str(place), **_finding(context, one)} for place, one in enumerate(statement.findings, start=1)
        ],
        "keys": keys,
        "more_keys": max(len(wanted_heat_maps(context) or _outlined_only(context)) - MOST_KEY_IMAGES, 0),
        "recommendations": [
            {"text": advice.text, "source": advice.source, "findings": ", ".join(advice.finding_ids)}
            for advice in statement.recommendations
        ],
        "limits": list(statement.limits) if has_looked else [],  # of nothing that was looked at there is no rest
        "responsibility": statement.responsibility,
        "made": _made(context),
    }
    return data, panels


def _patient(context: Context) -> Json:
    patient, language = context.source.patient, context.statement.language
    issuer = f" ({PAGE_WORDS[language]['issuer']} {patient.issuer})" if patient.issuer else ""
    return {
        "name": _name(patient.name) or "-",
        "number": patient.patient_id or "-",
        "id": f"{patient.patient_id or '-'}{issuer}",
        "sex": SEXES[language].get(patient.sex, ""),
        "birth_date": _date(patient.birth_date),
    }


def _study(context: Context) -> Json:
    order = context.source.order
    time = f" {order.study_time[:2]}:{order.study_time[2:4]}" if len(order.study_time) >= 4 else ""
    return {
        "uid": context.source.study.study_instance_uid,
        "description": order.study_description,
        "date": f"{_date(order.study_date)}{time}" if order.study_date else "",
        "accession": order.accession_number,
        "referring": _name(order.referring_physician),
    }


def _finding(context: Context, finding: StatedFinding) -> Json:
    words, page = WORDS[context.statement.language], PAGE_WORDS[context.statement.language]
    found = next(one for one in context.analysis.findings if one.finding_id == finding.finding_id)
    decimals = [context.template.measurement(item.quantity).decimals for item in found.measurements]
    tier = page["not_stated"]
    if finding.certainty is not None:
        tier = f"{100.0 * finding.certainty.probability:.0f} % ({words.tier[finding.certainty.tier]})"
    return {
        "id": finding.finding_id,
        "sentence": finding.sentence,
        "measurements": [
            {
                "label": item.label,
                "value": f"{item.value:.{places}f}",
                "unit": "" if item.unit.value == "1" else item.unit.value,
                "method": item.method,
            }
            for item, places in zip(finding.measurements, decimals, strict=True)
        ],
        "tier": tier,
    }


def _keys(context: Context) -> tuple[list[Json], dict[str, str]]:
    """The first key images, each as it is read and with its heat; without heat maps those that findings outline."""
    keys: list[Json] = []
    panels: dict[str, str] = {}
    for index, heat_map in enumerate(wanted_heat_maps(context)[:MOST_KEY_IMAGES], start=1):
        place = (heat_map.sop_instance_uid, context.source.frame_number(heat_map))
        names = {"original": f"original-{index}", "overlay": f"overlay-{index}"}
        outlines = _outlines(context, place) or labelled(context, heat_map.regions)
        for name, heat in ((names["original"], None), (names["overlay"], heat_map.heat)):
            panels[name] = key_panel(
                heat_map.background, outlines, _sides(context, place), spacing_mm=heat_map.spacing_mm, heat=heat
            )
        basis = context.template.phrase(heat_map.basis, context.statement.language)
        keys.append({**names, "caption": _caption(context, place, heat_map.slice_label), "basis": basis})
    for index, place in enumerate(_outlined_only(context)[:MOST_KEY_IMAGES], start=1):
        picture = key_picture(context, place)
        if picture is not None:
            background, spacing_mm = picture
            name = f"original-{index}"
            outlines = _outlines(context, place)
            panels[name] = key_panel(background, outlines, _sides(context, place), spacing_mm=spacing_mm)
            keys.append({"original": name, "overlay": "", "caption": _caption(context, place, ""), "basis": ""})
    return keys, panels


def _outlined_only(context: Context) -> list[KeyImage]:
    """The key images of a page that has no heat map to show."""
    return key_images(context) if context.statement.findings and not wanted_heat_maps(context) else []


def _outlines(context: Context, place: KeyImage) -> list[tuple[Region, str]]:
    """What findings outline on the image, under their numbers in the table."""
    return [
        (region, str(place_in_table))
        for place_in_table, finding in enumerate(context.statement.findings, start=1)
        for region in finding.regions
        if (region.sop_instance_uid, context.source.frame_number(region)) == place
    ]


def _caption(context: Context, place: KeyImage, slice_label: str) -> str:
    """Which image it is, as a viewer numbers it."""
    uid, frame_number = place
    image, words = context.source.image(uid), PAGE_WORDS[context.statement.language]
    numbers = {
        "series": number(image, "SeriesNumber"), "image": number(image, "InstanceNumber"), "frame": frame_number
    }  # fmt: skip
    parts = [f"{words[key]} {value:g}" for key, value in numbers.items() if value is not None]
    label = context.template.label(slice_label, context.statement.language)
    return ", ".join([*parts, *([label] if label else [])])


def _sides(context: Context, place: KeyImage) -> tuple[str, str]:
    uid, frame_number = place
    sides = patient_orientation(context.source.image(uid), frame_number)
    return (opposite(sides[0]), sides[0]) if sides else ("", "")


def _made(context: Context) -> Json:
    algorithm, words = context.statement.algorithm, WORDS[context.statement.language]
    return {
        "model": f"{algorithm.name} {algorithm.version}",
        "algorithm": f"{algorithm.name} {algorithm.version}, {algorithm.manufacturer}",
        "basis": words.basis[algorithm.basis],
        "operating_point": ", ".join(f"{name} {value}" for name, value in algorithm.parameters),
        "weights": algorithm.weights_sha256,
        "device": algorithm.device,
        "images_read": str(len(context.analysis.source_uids)),
        "reported_at": context.made_at.isoformat(sep=" ", timespec="seconds"),
    }


def _name(name: PersonName) -> str:
    """Ideographic before alphabetic, as a ward reads it; parts apart."""
    ideographic = name.ideographic.replace("^", "")
    alphabetic = " ".join(part for part in name.alphabetic.replace("^", " ").split(" ") if part)
    return "  ".join(part for part in (ideographic, alphabetic) if part)


def _date(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date
