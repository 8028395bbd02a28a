"""Statements made by hand, for tests of what leaves the node."""

from dataclasses import replace
from datetime import UTC, datetime

from node.domain.algorithm import Algorithm, Basis
from node.domain.codes import Code
from node.domain.findings import Certainty, Status, Tier
from node.domain.statement import StatedFinding, StatedMeasurement, Statement
from node.domain.study import Order, Patient, PersonName
from node.settings import Hl7Destination

WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
FAILED = Code("111245", "DCM", "No algorithms succeeded; without findings")
NOT_EVALUATED = Code("373121007", "SCT", "Not evaluated")
MADE_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULES = Algorithm("round_opacity", "1.2.0", "Example", Basis.RULE_BASED)
LEARNED = Algorithm("opacity_net", "2.0.1", "Example", Basis.LEARNED, weights_sha256="0" * 64)

OPACITY = StatedFinding(
    finding_id="opacity-1",
    tracking_uid="2.25.11",
    concept=Code("112001", "DCM", "Opacity"),
    category=Code("276214006", "SCT", "Morphological abnormality"),
    label="Round opacity",
    sentence="Round opacity in the right lung, 23.5 mm.",
    is_abnormal=True,
    site=Code("39607008", "SCT", "Lung"),
    laterality=Code("24028007", "SCT", "Right"),
    measurements=(
        StatedMeasurement(
            Code("103339001", "SCT", "Long Axis"),
            23.5,
            Code("mm", "UCUM", "millimeter"),
            "Long axis",
            "longest chord of the outline",
        ),
    ),
)
STATEMENT = Statement(
    status=Status.FINDINGS,
    summary=WITH_FINDINGS,
    title="Round opacity on chest radiograph",
    conclusion="One round opacity was found.",
    findings=(OPACITY,),
    algorithm=RULES,
    made_at=MADE_AT,
    language="en",
    responsibility="Made by a machine and verified by nobody.",
    limits=("Bones were not looked at.", "The heart was not looked at."),
)
WITH_CERTAINTY = replace(
    STATEMENT,
    algorithm=LEARNED,
    findings=(replace(OPACITY, certainty=Certainty(0.873, Tier.HIGH)),),
)
PATIENT = Patient("P-0042", "HOSPITAL", PersonName("Wang^XiaoMing", "王^小明"), "19800102", "M")
ORDER = Order(
    study_instance_uid="2.25.1001",
    accession_number="A-77",
    placer_order_number="PL-1",
    procedure=Code("RPID16", "RADLEX", "XR Chest"),
    study_description="Chest PA",
    study_date="20260301",
    study_time="110203.500",
)
RIS = Hl7Destination(name="ris", host="127.0.0.1", port=2575)
