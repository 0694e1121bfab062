"""What pyproject.toml cannot say: the wheel holds the experiments, as `jaxcv/experiments`, for `jaxcv NAME`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithExperiments(build_py):
    """Also copies `experiments/`; a clone that is installed as editable has it beside the package."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "jaxcv/experiments"
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted(Path("experiments").glob("*.py")):
                shutil.copy(file, target)


setup(cmdclass={"build_py": BuildWithExperiments})
