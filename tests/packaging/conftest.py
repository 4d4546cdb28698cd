"""Fresh environments in which the package is installed the way users install it, offline.

Each environment gets links to everything that is installed here except the package itself: what
is found in it came from the installation under test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = "rtgateway"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the package installed in it."""

    directory: Path

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's commands somewhere else than in the checkout."""
        program = self.directory / "bin" / command[0]
        return run(program, *command[1:], cwd=self.directory)

    @property
    def site_packages(self) -> Path:
        return self.directory / site_packages_below(self.directory)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without anything that leads Python to the checkout."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def pip(*arguments: str | Path) -> None:
    """Run pip without network; what it says is shown only when it fails."""
    done = run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def site_packages_below(directory: Path) -> Path:
    base = {"base": str(directory), "platbase": str(directory)}
    return Path(sysconfig.get_path("purelib", "venv", base)).relative_to(directory)


def link_packages(source: Path, target: Path) -> None:
    """Link everything installed in `source` into `target`, except what belongs to the package.

    ``twisted/plugins`` is where the package puts a file, hence a directory of its own.
    """
    for entry in source.iterdir():
        if OURS in entry.name or entry.name in {"dropin.cache", "__pycache__"}:
            continue
        place = target / entry.name
        if entry.relative_to(source).name in {"twisted", "plugins"} and entry.is_dir():
            place.mkdir()
            link_packages(entry, place)
        else:
            place.symlink_to(entry)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--no-index", "-w", directory)
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def make_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Environment]:
    """Makes an environment with the package as pip's arguments say, such as a wheel."""

    def make(*what: str | Path) -> Environment:
        directory = tmp_path_factory.mktemp("environment")
        venv.create(directory, symlinks=True)
        here = Path(sysconfig.get_path("purelib"))
        environment = Environment(directory)
        for leftover in environment.site_packages.iterdir():
            shutil.rmtree(leftover)
        link_packages(here, environment.site_packages)
        python = directory / "bin" / "python"
        # Twisted is linked, not installed, so its command has to be put there as pip would.
        twistd = directory / "bin" / "twistd"
        twistd.write_text(f"#!{python}\nfrom twisted.scripts.twistd import run\nrun()\n")
        twistd.chmod(0o755)
        offline = ("--no-deps", "--no-index", "--no-build-isolation")
        pip("--python", python, "install", *offline, *what)
        return environment

    return make


@pytest.fixture(scope="session", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest, wheel: Path, make_environment: Callable[..., Environment]
) -> Environment:
    """The package installed from its wheel, and installed editable."""
    return make_environment(wheel) if request.param == "wheel" else make_environment("-e", ROOT)
