"""The commit in a record: of the package's own files, or none and a warning; never a traceback."""

import ast
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ghn_pipeline"
NONE = {"commit": None, "dirty": None}


def git(folder, *words):
    identity = ("-c", "user.name=test", "-c", "user.email=test", "-c", "commit.gpgsign=false")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *words],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path):
    """Copy what the question needs of the package into a folder, and return the package there."""

    def make(folder):
        package = folder / "ghn_pipeline"
        (package / "pipeline").mkdir(parents=True)
        for name in ("__init__.py", "pipeline/__init__.py", "pipeline/commit.py"):
            shutil.copy(PACKAGE / name, package / name)
        return package

    return make


@pytest.fixture
def checkout(tmp_path, copy):
    """A repository in which the package is committed."""
    package = copy(tmp_path / "checkout")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "-m", "the package")
    return package


def asked(package, **environment):
    """Return what a process that uses the package records, and what it says."""
    code = (
        "from ghn_pipeline.pipeline.commit import commit, commit_or_warning\n"
        "assert commit() == commit_or_warning() == commit_or_warning()\n"
        "print(commit())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent), **environment},
        cwd=package.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout), done.stderr


def none_with_one_warning(package, **environment):
    """Return the reason of the one warning."""
    found, said = asked(package, **environment)
    assert found == NONE
    (line,) = said.splitlines()
    start = "warning: the record names no commit: "
    assert line.startswith(start)
    return line.removeprefix(start)


def test_a_checkout_has_its_own_commit(checkout):
    assert asked(checkout) == ({"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}, "")


def test_files_outside_the_package_do_not_alter_it(checkout):
    (checkout.parent / "params.yaml").write_text("scale: mine\n", encoding="utf-8")
    assert asked(checkout)[0]["dirty"] is False


@pytest.mark.parametrize("name", ["pipeline/commit.py", "new.py", "stages/new.py"])
def test_an_altered_or_untracked_file_of_the_package_makes_it_dirty(checkout, name):
    git(checkout, "config", "status.showUntrackedFiles", "no")
    (checkout / name).parent.mkdir(exist_ok=True)
    with open(checkout / name, "a", encoding="utf-8") as file:
        file.write("\n# altered\n")
    assert asked(checkout)[0]["dirty"] is True


@pytest.mark.parametrize("ignored", [True, False])
def test_a_copy_inside_another_repository_has_no_commit(tmp_path, copy, ignored):
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    (outer / ".gitignore").write_text("vendor\n" if ignored else "", encoding="utf-8")
    git(outer, "add", ".")
    git(outer, "commit", "--quiet", "-m", "of something else")
    package = copy(outer / "vendor")
    assert "not in 'HEAD'" in none_with_one_warning(package)
    if not ignored:
        git(outer, "add", ".")  # in the index is in no commit yet
        none_with_one_warning(package)


def test_a_wheel_in_site_packages_has_no_commit(tmp_path, checkout):
    site = checkout.parent / ".venv" / "lib" / "site-packages"  # of an environment in the checkout
    site.mkdir(parents=True)
    shutil.copytree(checkout, site / "ghn_pipeline")
    none_with_one_warning(site / "ghn_pipeline")


def test_no_repository_is_one_warning(tmp_path, copy):
    package = copy(tmp_path / "alone")
    assert "not a git repository" in none_with_one_warning(package)


def test_the_environment_of_another_repository_does_not_mislead(tmp_path, copy, checkout):
    there = {"GIT_DIR": str(checkout.parent / ".git"), "GIT_WORK_TREE": str(checkout.parent)}
    package = copy(tmp_path / "alone")
    none_with_one_warning(package, **there)
    nowhere = {"GIT_DIR": str(tmp_path), "GIT_INDEX_FILE": str(tmp_path / "index")}
    assert asked(checkout, **nowhere) == asked(checkout)


def test_a_broken_repository_is_one_warning(checkout):
    (checkout.parent / ".git" / "HEAD").write_bytes(b"\xff\xfe nonsense")
    none_with_one_warning(checkout)


def test_a_broken_index_is_one_warning(checkout):
    (checkout.parent / ".git" / "index").write_bytes(b"nonsense")
    none_with_one_warning(checkout)


def test_a_repository_of_another_user_is_one_warning(checkout):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    for path in (checkout.parent, checkout.parent / ".git"):
        os.chown(path, 12345, 12345)
    home = str(checkout.parent.parent)  # without a setting that trusts the folder
    environment = {"HOME": home, "XDG_CONFIG_HOME": home, "SUDO_UID": "0"}
    assert "dubious ownership" in none_with_one_warning(checkout, **environment)
    # as a container says that the folder is safe
    environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    found, said = asked(checkout, **environment, GIT_CONFIG_VALUE_0=str(checkout.parent))
    assert (len(found["commit"]), said) == (40, "")


@pytest.mark.parametrize("script", [None, "", "#!/nowhere/at/all\n", "#!/bin/sh\nexit 3\n"])
def test_a_git_that_cannot_be_run_is_one_warning(tmp_path, checkout, script):
    """Missing, not a program, of a missing interpreter, or ending without a word."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if script is not None:
        (programs / "git").write_text(script, encoding="utf-8")
        (programs / "git").chmod(stat.S_IRWXU)
    assert none_with_one_warning(checkout, PATH=str(programs))


def test_a_git_that_must_not_be_run_is_one_warning(tmp_path, checkout):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\n", encoding="utf-8")
    (programs / "git").chmod(stat.S_IRUSR)
    assert "Permission denied" in none_with_one_warning(checkout, PATH=str(programs))


def test_a_git_that_hangs_is_one_warning(tmp_path, checkout):
    programs = tmp_path / "programs"
    programs.mkdir()
    # what it starts outlives it, and holds its streams open
    (programs / "git").write_text("#!/bin/sh\n/bin/sleep 15\n", encoding="utf-8")
    (programs / "git").chmod(stat.S_IRWXU)
    reason = none_with_one_warning(checkout, PATH=str(programs))
    assert "did not answer within" in reason
