"""Messages as hospital systems send them, for the tests of the listener."""

from collections.abc import Sequence

__all__ = ["adt", "merge", "omi", "orm"]


def _msh(kind: str, control_id: str, *, version: str = "2.5.1", more: str = "||||||UNICODE UTF-8") -> str:
    return f"MSH|^~\\&|HIS|HOSPITAL|WETREAD||20260301120000||{kind}|{control_id}|P|{version}{more}"


def _joined(lines: Sequence[str], encoding: str = "utf-8") -> bytes:
    return "".join(f"{line}\r" for line in lines).encode(encoding)


def orm(
    control_id: str = "M-1",
    *,
    accession: str = "A-77",
    patient: str = "P-0042^^^HOSPITAL",
    control: str = "NW",
    placer: str = "PL-1",
    filler: str = "F-1",
    priority: str = "S",
    indication: str = "Fall from stairs",
    reason: str = "^Headache",
    version: str = "2.3.1",
    more: str = "||||||UNICODE UTF-8",
    encoding: str = "utf-8",
) -> bytes:
    """ORM^O01 as IHE RAD-2 and RAD-4 shape it."""
    obr = {
        1: "1", 2: placer, 3: filler, 4: "CT1^CT head^LOCAL", 13: indication, 16: "1234^Li^Lei",
        18: accession, 27: f"1^once^^^^{priority}", 31: reason,
    }  # fmt: skip
    return _joined(
        (
            _msh("ORM^O01", control_id, version=version, more=more),
            f"PID|1||{patient}||Wang^XiaoMing||19800102|M",
            "PV1|1|E|ER^1^2^HOSPITAL",
            f"ORC|{control}|{placer}|{filler}||||1^once^^^^{priority}|||||1234^Li^Lei",
            "OBR|" + "|".join(obr.get(number, "") for number in range(1, 32)),
        ),
        encoding,
    )


def omi(control_id: str = "M-2", *, accession: str = "A-77", priority: str = "S", encoding: str = "utf-8") -> bytes:
    """OMI^O23 of v2.5.1 with its own places for priority and Accession Number."""
    return _joined(
        (
            _msh("OMI^O23^OMI_O23", control_id),
            "PID|1||P-0042^^^HOSPITAL~999^^^OTHER||王^小明^^^^^L^I||19800102|M",
            "PV1|1|I|WARD^12^1",
            "ORC|NW|PL-1|F-1",
            f"TQ1|1||||||||{priority}^STAT^HL70485",
            "OBR|1|PL-1|F-1|CT1^CT head^LOCAL|||||||||跌倒",
            f"IPC|{accession}|RP-1|2.25.1001|SPS-1|CT",
        ),
        encoding,
    )


def adt(control_id: str = "M-3", *, event: str = "A08", ward: str = "WARD^12^1") -> bytes:
    """ADT about the patient of the orders above."""
    lines = (
        _msh(f"ADT^{event}", control_id),
        "EVN||20260301120000",
        "PID|1||P-0042^^^HOSPITAL||Wang",
        f"PV1|1|I|{ward}",
    )
    return _joined(lines)


def merge(control_id: str = "M-4", *, stays: str = "P-1", goes: str = "P-0042") -> bytes:
    """ADT^A40: the second id is the first one's patient."""
    lines = (
        _msh("ADT^A40^ADT_A39", control_id),
        "EVN||20260301120000",
        f"PID|1||{stays}^^^HOSPITAL||Wang",
        f"MRG|{goes}^^^HOSPITAL",
    )
    return _joined(lines)
