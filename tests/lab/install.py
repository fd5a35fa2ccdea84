"""Installs the clients of the table, and the fronts: Debian's packages with apt, the others below
`target/lab`."""

import os
import shutil
import subprocess
import sys

import servers
import table
from table import LAB, ROOT, said

JARS = ["okhttp", "okio", "httpclient5", "httpcore5", "httpcore5-h2"]


def run(*command, **options):
    print("+", *command, flush=True)
    subprocess.run(command, check=True, cwd=ROOT, **options)


def install(clients):
    apt(clients)
    for venv in {client.venv for client in clients if "pip" in client.entry}:
        pip(venv, {client.entry["pip"] for client in clients if client.venv == venv and "pip" in client.entry})
    packages = sorted({client.entry["npm"] for client in clients if "npm" in client.entry})
    if packages:
        run("npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(LAB), *packages)
    if any("tests/browser/node_modules" in str(client.program.get("files")) for client in clients):
        run("npm", "ci", "--no-audit", "--no-fund", "--silent", "--prefix", "tests/browser")
    build(clients)


def apt(clients):
    """Installs the packages that are not there. A program that tells its version is there, from Debian
    or from elsewhere."""
    named = [client for client in clients if "apt" in client.entry]
    told = {client.entry["apt"] for client in named if "version" in client.entry and client.version()}
    wanted = {package for client in named if client.entry["apt"] not in told for package in client.entry["apt"].split()}
    wanted |= {package for package in servers.APT if not is_there(package)}
    lacking = sorted(package for package in wanted if not is_installed(package))
    if not lacking:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    run(*sudo, "apt-get", "update", "-qq")
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq"]
    run(*sudo, *quietly, "--no-install-recommends", *lacking)


def is_there(package):
    return servers.program("ip" if package == "iproute2" else package)


def is_installed(package):
    return "installed" in (said(["dpkg-query", "-W", "-f", "${Status}", package]) or "").split()


def pip(venv, packages):
    folder = LAB / venv
    if not folder.exists():
        run(sys.executable, "-m", "venv", str(folder))
    pip = [str(folder / "bin/python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, *sorted(packages))


def build(clients):
    programs = {client.entry["program"] for client in clients}
    sources = ROOT / "tests/clients"
    if "upload.go" in programs and shutil.which("go"):
        run("go", "build", "-o", str(LAB / "upload-go"), str(sources / "go/upload.go"))
    java = [str(sources / "java" / name) for name in ("Upload.java", *sorted(programs)) if name.endswith(".java")]
    if len(java) > 1 and shutil.which("javac"):
        jars = ":".join(f"/usr/share/java/{jar}.jar" for jar in JARS)
        run("javac", "-d", str(LAB / "classes"), "-cp", jars, *java)
    cargo = os.environ.get("CARGO", "cargo")
    flags = ["--quiet"] + (["--release"] if table.profile == "release" else [])
    if "upload-clients" in programs:
        run(cargo, "build", "-p", "upload-clients", *flags)
    run(cargo, *servers.BUILD[1:], *flags)
