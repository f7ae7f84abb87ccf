"""The templates as ``sam deploy`` takes them, in ``<output>/stack`` beside the bundles.

Promises the templates of this version (or of a folder that the user names), unchanged but for where the bundles lie; and, if the
worker's functions come from a container image, for those functions. Template files are read as text, so that comments and tags of
CloudFormation stay; every function of ours has its properties one to a line, which tests hold.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from langgraph_serverless.build.sources import deployment_folder
from langgraph_serverless.errors import DeploymentError

FOLDER = "stack"
WORKER = "../../worker"
_BLOCK = re.compile(r"^(?=\S|  \S)", re.MULTILINE)
_PROPERTY = re.compile(r"^      (Runtime|CodeUri|Handler): *(.+?) *$", re.MULTILINE)
_GLOBAL = re.compile(r"^    (Runtime|CodeUri): *(.+?) *\n", re.MULTILINE)


def make_stack_folder(output: Path, *, template: Path | None = None, image_uri: str | None = None) -> Path:
    """Writes the folder and returns the path of the template in it."""
    source = template or deployment_folder() / "template.yaml"
    if not source.is_file():
        raise DeploymentError(f"The template {source} does not exist.")
    folder = output / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "infra").mkdir(parents=True)
    (folder / "template.yaml").write_text(_beside_bundles(source.read_text(encoding="utf-8"), "../"), encoding="utf-8")
    for nested in sorted((source.parent / "infra").glob("*.yaml")):
        text = _beside_bundles(nested.read_text(encoding="utf-8"), "../../")
        if image_uri is not None:
            text = with_image(text, image_uri)
        (folder / "infra" / nested.name).write_text(text, encoding="utf-8")
    return folder / "template.yaml"


def _beside_bundles(text: str, up: str) -> str:
    return re.sub(r"(?m)^( *CodeUri: *)(?:\.\./)?\.build/", rf"\g<1>{up}", text)


def with_image(text: str, image_uri: str) -> str:
    """A template in which functions with the worker's bundle come from an image.

    SAM refuses an image together with a runtime, also one from ``Globals``; so those move to the functions that stay archives.
    """
    blocks = _BLOCK.split(text)
    shared = {
        name: value for block in blocks if block.startswith("  Function:") for name, value in _GLOBAL.findall(block)
    }
    return "".join(_image_block(block, shared, image_uri) for block in blocks)


def _image_block(block: str, shared: dict[str, str], image_uri: str) -> str:
    if block.startswith("  Function:"):
        return _GLOBAL.sub("", block)
    if "Type: AWS::Serverless::Function\n" not in block:
        return block
    own = dict(_PROPERTY.findall(block))
    code = own.get("CodeUri", shared.get("CodeUri"))
    kept = re.sub(r"(?m)^      (?:Runtime|CodeUri|Handler):.*\n", "", block)
    if code == WORKER:
        lines = ["PackageType: Image", f"ImageUri: {image_uri}", f"ImageConfig: {{Command: [{own['Handler']}]}}"]
    else:
        lines = [
            f"Handler: {own['Handler']}",
            f"Runtime: {own.get('Runtime', shared.get('Runtime'))}",
            f"CodeUri: {code}",
        ]
    return kept.replace("    Properties:\n", "    Properties:\n" + "".join(f"      {line}\n" for line in lines), 1)
