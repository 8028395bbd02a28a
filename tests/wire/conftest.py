"""What the tests of the front door share."""

import shutil
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.wire.certificates import Certificates, make_certificates


@pytest.fixture(scope="session")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real CT image, ``a.dcm``."""
    folder = tmp_path_factory.mktemp("ct")
    shutil.copy(str(get_testdata_file("CT_small.dcm")), folder / "a.dcm")
    return folder


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))
