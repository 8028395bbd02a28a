"""Every field of the messages that the node sends, and where its value comes from; tests compare it with messages."""

from dataclasses import dataclass

__all__ = ["ACK_FIELDS", "ORU_FIELDS", "Field"]

BOTH = ("2.5.1", "2.3.1")
NEW, OLD = ("2.5.1",), ("2.3.1",)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a segment, the versions in which it is written, and the source of its value in words."""

    segment: str
    number: int
    source: str
    versions: tuple[str, ...] = BOTH


ORU_FIELDS = (
    Field("MSH", 1, "`|`"),
    Field("MSH", 2, "`^~\\&`"),
    Field("MSH", 3, "`sending_application`; a UID or a name of more than 20 characters as universal id"),
    Field("MSH", 4, "`sending_facility`, likewise"),
    Field("MSH", 5, "`receiving_application`, likewise"),
    Field("MSH", 6, "`receiving_facility`, likewise"),
    Field("MSH", 7, "time of the analysis, of a message sent again that of the order; local, with its distance to UTC"),
    Field("MSH", 9, "`ORU^R01^ORU_R01`, in 2.3.1 `ORU^R01`"),
    Field("MSH", 10, "20 characters, derived from reading, destination and late orders: the same on every retry"),
    Field("MSH", 11, "`P`"),
    Field("MSH", 12, "`version`"),
    Field("MSH", 15, "`AL` if `acknowledgement` is `commit` or `enhanced`"),
    Field("MSH", 16, "`NE` if `acknowledgement` is `commit`, `AL` if it is `enhanced`"),
    Field("MSH", 18, "`character_set`"),
    Field("MSH", 21, "`RAD-128^IHE`", NEW),
    Field("PID", 1, "`1`"),
    Field("PID", 3, "Patient ID; Issuer of Patient ID in component 4"),
    Field("PID", 5, "Patient's Name: ideographic (I), alphabetic (A) and phonetic (P) group, a repetition each"),
    Field("PID", 7, "Patient's Birth Date, if it is a date"),
    Field("PID", 8, "Patient's Sex, if it is a code of table 0001"),
    Field("ORC", 1, "`RE`"),
    Field("ORC", 2, "placer order number of the images, else of the order; never invented"),
    Field("ORC", 3, "filler order number of the images, else of the order; or the accession (`accession_as_filler`)"),
    Field("OBR", 1, "`1`"),
    Field("OBR", 2, "as ORC-2"),
    Field("OBR", 3, "as ORC-3"),
    Field("OBR", 4, "requested or performed procedure code; else `^` and Study Description or the report's title"),
    Field("OBR", 7, "Study Date and Study Time"),
    Field("OBR", 13, "relevant clinical information of the order, at most 199 characters"),
    Field("OBR", 16, "who ordered, of the order"),
    Field("OBR", 18, "Accession Number"),
    Field("OBR", 22, "as MSH-7"),
    Field("OBR", 25, "`R`: stored, verified by nobody; `C` corrected; `X` failed or nothing was evaluated; never `F`"),
    Field("OBR", 31, "`^` and the reason for the study of the order, at most 199 characters"),
    Field("OBX", 1, "1, 2, 3, ..."),
    Field("OBX", 2, "ST, `coded_type` (CE or CWE), NM, TX or FT"),
    Field("OBX", 3, "what is observed; see below"),
    Field("OBX", 4, "finding id, or the number of a report, a limit or a piece of advice; in 2.3.1 else `1`"),
    Field("OBX", 5, "the value"),
    Field("OBX", 6, "unit of a number (UCUM)"),
    Field("OBX", 8, "of a finding: `AA` critical by its report template, `A` abnormal, `N` not"),
    Field("OBX", 11, "`O` for references; else `R`, `C` corrected, `X` failed, `N` not evaluated"),
    Field("OBX", 15, "`^` and name and version of the node", OLD),
    Field("OBX", 17, "algorithm, version and, in a repetition, method of the measurement"),
    Field("OBX", 18, "name and version of the node; device that computed", NEW),
    Field("OBX", 19, "time of the analysis", NEW),
)
ACK_FIELDS = (
    Field("MSH", 1, "`|`"),
    Field("MSH", 2, "`^~\\&`"),
    Field("MSH", 3, "`application` of `[hl7]`"),
    Field("MSH", 4, "`facility` of `[hl7]`"),
    Field("MSH", 5, "MSH-3 of the message"),
    Field("MSH", 6, "MSH-4 of the message"),
    Field("MSH", 7, "now"),
    Field("MSH", 9, "`ACK`, the event of the message and, from 2.5 on, `ACK`"),
    Field("MSH", 10, "20 characters, of their own"),
    Field("MSH", 11, "`P`"),
    Field("MSH", 12, "MSH-12 of the message"),
    Field("MSH", 15, "`NE` in enhanced mode"),
    Field("MSH", 16, "`NE` in enhanced mode"),
    Field("MSH", 18, "character set of the message"),
    Field("MSA", 1, "see below"),
    Field("MSA", 2, "MSH-10 of the message"),
    Field("MSA", 3, "why it was not taken, in words that name fields and no values"),
    Field("ERR", 1, "segment, its number, field, and code of table 0357", OLD),
    Field("ERR", 2, "segment, its number and field", NEW),
    Field("ERR", 3, "code of table 0357", NEW),
    Field("ERR", 4, "`E`", NEW),
    Field("ERR", 8, "as MSA-3", NEW),
)
