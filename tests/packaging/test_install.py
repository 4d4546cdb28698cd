"""What a user has after ``pip install``: the twistd plugin, the command, the module."""

from __future__ import annotations

import zipfile
from pathlib import Path

from rtgateway import __version__
from tests.packaging.conftest import Environment


def test_the_wheel_adds_one_file_to_twisted_and_replaces_none(wheel: Path) -> None:
    """``twisted/__init__.py`` or ``twisted/plugins/__init__.py`` of ours would break Twisted."""
    names = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in names if not name.startswith("rtgateway")]
    assert outside == ["twisted/plugins/rtgateway_plugin.py"]


def test_the_wheel_carries_the_licence_and_the_marker_of_typed_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert f"rtgateway-{__version__}.dist-info/licenses/LICENSE" in names
    assert "rtgateway/py.typed" in names


def test_twistd_lists_the_gateway(installed: Environment) -> None:
    done = installed.run("twistd", "--help")
    assert done.returncode == 0, done.stderr
    assert "\n    rtgateway " in done.stdout


def test_twistd_shows_the_options_of_the_gateway(installed: Environment) -> None:
    done = installed.run("twistd", "rtgateway", "--help")
    assert done.returncode == 0, done.stderr
    assert "--config=" in done.stdout


def test_the_command_is_there(installed: Environment) -> None:
    done = installed.run("rtgateway", "version")
    assert (done.returncode, done.stdout) == (0, f"rtgateway {__version__}\n"), done.stderr


def test_the_package_runs_as_a_module(installed: Environment) -> None:
    done = installed.run("python", "-m", "rtgateway", "version")
    assert (done.returncode, done.stdout) == (0, f"rtgateway {__version__}\n"), done.stderr


def test_the_package_comes_from_the_installation_under_test(installed: Environment) -> None:
    """Guards the tests above: the environment must not see the package that runs them."""
    code = "import twisted.plugins.rtgateway_plugin as plugin; print(plugin.__file__)"
    done = installed.run("python", "-c", code)
    expected = installed.site_packages / "twisted" / "plugins" / "rtgateway_plugin.py"
    assert done.stdout.strip() == str(expected), done.stderr
