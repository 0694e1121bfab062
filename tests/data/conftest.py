import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """Folder of a real data set under JAXCV_DATA; the test is skipped where there is none."""

    def find(name):
        folder = Path(os.environ.get("JAXCV_DATA", ""), name)
        if "JAXCV_DATA" not in os.environ or not folder.is_dir():
            pytest.skip(f"needs the environment variable JAXCV_DATA, a folder with {name}")
        return folder

    return find
