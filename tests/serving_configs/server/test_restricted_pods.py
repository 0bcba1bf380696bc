"""Pods that a namespace of Kubernetes' Pod Security Standard "restricted" takes."""

import pathlib
from typing import Any

import yaml

from serving_configs.__main__ import main


def pods(tree: pathlib.Path) -> list[dict[str, Any]]:
    """The specs of all pods in the deployment files."""
    files = [*tree.glob("deployment/kubernetes/*.yaml"), tree / "deployment/kubernetes-claim.yaml"]
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    specs = [document["spec"] for document in documents if document["kind"] == "Pod"]
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    return specs + [document["spec"]["template"]["spec"] for document in deployments]


def test_pods_may_do_nothing_that_they_do_not_need(tree: pathlib.Path) -> None:
    assert main(["write", str(tree)]) == 0
    found = pods(tree)
    assert len(found) > 2
    for pod in found:
        (container,) = pod["containers"]
        context = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
