"""What highdicom made, with our header on it."""

from pydicom.dataset import Dataset

from node.dicom.uid import derive_uid

__all__ = ["settle"]


def settle(made: Dataset, header: Dataset) -> Dataset:
    """Put our header onto what highdicom made, in place of its random UIDs and its time of now."""
    ds = Dataset()
    ds.update({element.tag: element for element in made})
    ds.update({element.tag: element for element in header})
    organization_uid = derive_uid("dimensions", header.SOPInstanceUID)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization_uid
    return ds
