from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

from node.domain.work import OutputKind
from tests.unit.report.studies import ALL_KINDS, Made, brain_analysis, film_analysis, film_study, make, mr_study


def maps(made: Made) -> list[Path]:
    return [output.path for output in made.outputs if output.kind is OutputKind.PARAMETRIC_MAP]


def test_the_heat_comes_back_as_it_was_in_the_place_of_its_slice(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    first = analysis.heat_maps[0]
    above = replace(first, sop_instance_uid="2.25.101.5", heat=first.heat * np.float32(0.5))
    both = replace(analysis, heat_maps=(first, above))
    (path,) = maps(make(both, study, tmp_path / "out", kinds=ALL_KINDS))
    ds = dcmread(path)
    heat = np.frombuffer(ds.FloatPixelData, np.float32).reshape(2, 48, 40)
    places = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in ds.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == [6.0, 8.0]
    for place, frame in zip(places, heat, strict=True):
        assert np.array_equal(frame, first.heat if place == 6.0 else above.heat)
    assert ds.FrameOfReferenceUID == "2.25.102"
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"


def test_two_heats_of_one_slice_are_two_objects(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    first = analysis.heat_maps[0]
    twice = replace(analysis, heat_maps=(first, replace(first, heat=first.heat * np.float32(0.5))))
    found = [dcmread(path) for path in maps(make(twice, study, tmp_path / "out", kinds=ALL_KINDS))]
    assert [ds.InstanceNumber for ds in found] == [1, 2]
    assert len({ds.SOPInstanceUID for ds in found}) == 2


def test_heat_of_images_without_a_place_in_the_patient_stays_in_the_heat_map(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    made = make(film_analysis(study), study, tmp_path / "out", kinds=ALL_KINDS)
    assert maps(made) == []
    assert OutputKind.HEAT_MAP in made.kinds
