from pathlib import Path

from node.store.found import find_reports
from tests.unit.report.studies import ALL_KINDS, make, mr_study, whole_brain_analysis


def test_every_kind_of_result_is_known_again_by_its_file_alone(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(whole_brain_analysis(study), study, tmp_path / "results" / "17", kinds=ALL_KINDS)
    (found,) = find_reports(tmp_path, ())
    assert {one.output_id: one.kind for one in found.outputs} == {one.output_id: one.kind for one in made.outputs}
