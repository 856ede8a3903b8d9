"""tools/setup.sh and tools/check_venv.py: half-made environments are found, missing rights are explained."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"])


class CheckVenv(unittest.TestCase):
    """An environment with one hand-made package, then damaged in each way that an interrupted pip leaves behind."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.site = pathlib.Path(self.folder.name)
        info = self.site / "tiny-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        (self.site / "tiny.py").write_text("x = 1\n")
        (info / "RECORD").write_text("tiny.py,,6\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/RECORD,,\n")
        self.list = self.site / "requirements.txt"
        self.list.write_text("# comment\ntiny==1.0\n")

    def broken(self):
        command = [sys.executable, SOURCE / "tools/check_venv.py", self.list]
        environment = {**os.environ, "PYTHONPATH": str(self.site)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    def test_sound(self):
        self.assertEqual(self.broken(), [])

    def test_other_version(self):
        self.list.write_text("tiny==2.0\n")
        self.assertEqual(self.broken(), ["tiny==2.0"])

    def test_missing_package(self):
        self.list.write_text("no-such-package==1.0\n")
        self.assertEqual(self.broken(), ["no-such-package==1.0"])

    def test_missing_file(self):
        (self.site / "tiny.py").unlink()
        self.assertEqual(self.broken(), ["tiny==1.0"])

    def test_cut_off_file(self):
        (self.site / "tiny.py").write_text("x")
        self.assertEqual(self.broken(), ["tiny==1.0"])

    def test_missing_record(self):
        (self.site / "tiny-1.0.dist-info/RECORD").unlink()
        self.assertEqual(self.broken(), ["tiny==1.0"])


class Setup(unittest.TestCase):
    """setup.sh with stand-ins for the system's commands on its PATH."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.bin = self.root / "bin"
        self.bin.mkdir()
        for name in ("bash", "dirname", "sha256sum", "mkdir", "cat", "rm", "flock", "env"):
            (self.bin / name).symlink_to(shutil.which(name))

    def command(self, name, body):
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def run_setup(self, **environment):
        return subprocess.run(
            ["bash", SOURCE / "tools/setup.sh"],
            env={"PATH": str(self.bin), "PLURAL_HOME": str(self.root / "home"), **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )

    def test_without_root_or_sudo_it_lists_the_packages(self):
        self.command("dpkg-query", "exit 1")
        self.command("apt-get", f"touch {self.root}/ran")
        self.command("id", "echo 1000")
        done = self.run_setup()
        self.assertEqual(done.returncode, 1)
        self.assertIn("neither root nor able to use sudo", done.stderr)
        self.assertIn("libyaml-cpp-dev", done.stderr)
        self.assertFalse((self.root / "ran").exists())

    def test_without_apt_it_says_how_to_go_on(self):
        self.command("dpkg-query", "exit 1")
        done = self.run_setup()
        self.assertEqual(done.returncode, 1)
        self.assertIn("PLURAL_SKIP_APT=1", done.stderr)

    def test_only_missing_packages_are_installed(self):
        self.command("dpkg-query", '[ "${@: -1}" = ccache ] || echo -n installed')
        self.command("dpkg", ":")
        self.command("id", "echo 0")
        self.command("apt-get", f'echo "$@" >> {self.root}/apt')
        self.command("python3", "exit 3")  # stops it before the virtual environment is made
        self.assertNotEqual(self.run_setup().returncode, 0)
        install = (self.root / "apt").read_text().splitlines()[-1]
        self.assertTrue(install.endswith("--no-install-recommends ccache"), install)


if __name__ == "__main__":
    unittest.main()
