#!/usr/bin/env python3
"""Renders the chart with Helm's own engine and checks what comes out: `make test-packages`.

Needs helm-python-sdk (Helm 4 as a library, no binary) and kubernetes-validate (the schemas of Kubernetes) from PyPI.
Does not need a cluster. Invariant: what is rendered is what the API server takes, and says what docs/PACKAGES.md promises.
"""

import functools
import re
import sys
import traceback
import warnings
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

CHART = Path(__file__).resolve().parent / "everdesk"
KUBERNETES = ["1.27", "1.30", "1.35"]
NAMESPACE = "desk"
# Kinds of the Prometheus operator are not Kubernetes' own.
WITHOUT_SCHEMA = {"ServiceMonitor", "PrometheusRule"}


@functools.cache
def load():
    return helm_python.Chart.load(str(CHART))


def render(**values):
    """Every object of the chart, by kind and name."""
    files = load().render(values=values, name="cs", namespace=NAMESPACE)
    found = {}
    for name, text in files.items():
        if name.endswith(".txt"):
            continue
        for one in yaml.safe_load_all(text):
            if one:
                key = (one["kind"], one["metadata"]["name"])
                assert key not in found, f"{key} twice"
                found[key] = one
    return found


def of_kind(objects, kind):
    return [one for (of, _), one in objects.items() if of == kind]


def pod(objects):
    return of_kind(objects, "StatefulSet")[0]["spec"]["template"]


def container(objects):
    return pod(objects)["spec"]["containers"][0]


def env(objects):
    return {one["name"]: one.get("value") for one in container(objects)["env"]}


def test_the_chart_is_free_of_lint():
    result = helm_python.lint(str(CHART))
    bad = [m for m in result.get("messages", []) if str(m.get("severity", "")).lower() in ("error", "warning", "2", "3")]
    assert not bad, bad


def test_everything_fits_the_schemas_of_kubernetes():
    everything = {
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
        "monitoring": {"operator": True, "dashboard": True, "annotations": True},
        "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "desk", "operator": "Exists"}],
        "antiAffinity": "preferred",
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "extraEnv": [{"name": "EVERDESK_DEAD_AFTER_S", "value": "600"}],
        "persistence": {"storageClass": "local"},
    }
    for values in ({}, {"replicas": 1}, {"replicas": 5}, everything):
        for (kind, name), one in render(**values).items():
            for version in KUBERNETES if kind not in WITHOUT_SCHEMA else []:
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise AssertionError(f"{kind} {name} for {version}: {error.message} at {list(error.path)}") from error


def test_pods_are_spread_and_one_at_a_time_may_be_disturbed():
    objects = render()
    stateful = of_kind(objects, "StatefulSet")[0]
    labels = pod(objects)["metadata"]["labels"]
    budget = of_kind(objects, "PodDisruptionBudget")[0]["spec"]
    assert budget["maxUnavailable"] == 1
    (rule,) = pod(objects)["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    selectors = [budget["selector"], rule["labelSelector"], stateful["spec"]["selector"]]
    selectors += [{"matchLabels": service["spec"]["selector"]} for service in of_kind(objects, "Service")]
    selectors += [policy["spec"]["podSelector"] for policy in of_kind(objects, "NetworkPolicy")]
    for selector in selectors:
        assert selector["matchLabels"].items() <= labels.items(), selector
    # All at once: after a power cut nobody is ready before a quorum is up.
    assert stateful["spec"]["podManagementPolicy"] == "Parallel"


def test_a_pod_drains_before_it_is_killed():
    objects = render(preStopSeconds=7)
    hook = container(objects)["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["sleep", "7"], hook
    # A node that is told to stop ends within 10 seconds.
    assert pod(objects)["spec"]["terminationGracePeriodSeconds"] >= 7 + 10 + 5
    assert container(objects)["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container(objects)["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_pods_know_one_another_by_names_that_exist():
    objects = render(replicas=5)
    stateful = of_kind(objects, "StatefulSet")[0]
    headless = objects["Service", stateful["spec"]["serviceName"]]
    assert headless["spec"]["clusterIP"] == "None" and headless["spec"]["publishNotReadyAddresses"] is True
    hosts = env(objects)["EVERDESK_NODES"].split(" ")
    name = stateful["metadata"]["name"]
    assert hosts == [f"{name}-{i}.{headless['metadata']['name']}.{NAMESPACE}.svc" for i in range(3)], hosts
    me = env(objects)["EVERDESK_ADVERTISE_HOST"].replace("$(POD_NAME)", f"{name}-0")
    assert me == hosts[0], "pod 0 finds itself first in the list, and founds"
    assert all(re.fullmatch(r"[a-z0-9.-]{1,253}", host) for host in hosts)
    listed = {port["containerPort"] for port in container(objects)["ports"]}
    assert {8080, 7080, 9080} == listed


def test_nothing_runs_as_root_or_writes_beside_its_volume():
    objects = render()
    assert pod(objects)["spec"]["securityContext"]["runAsNonRoot"] is True
    inside = container(objects)["securityContext"]
    assert inside["readOnlyRootFilesystem"] is True and inside["allowPrivilegeEscalation"] is False
    assert inside["capabilities"] == {"drop": ["ALL"]}
    assert pod(objects)["spec"]["automountServiceAccountToken"] is False


def test_only_the_pods_themselves_reach_peers_and_administration():
    (policy,) = of_kind(render(), "NetworkPolicy")
    for rule in policy["spec"]["ingress"]:
        open_to_all = "from" not in rule
        ports = {port["port"] for port in rule["ports"]}
        assert ports == {8080} if open_to_all else ports == {7080, 9080}, rule
    (clients,) = [s for s in of_kind(render(), "Service") if s["spec"].get("clusterIP") != "None"]
    assert [port["targetPort"] for port in clients["spec"]["ports"]] == ["clients"]


def test_the_admin_token_is_drawn_or_given():
    import base64

    (secret,) = of_kind(render(), "Secret")
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert re.fullmatch(r"[A-Za-z0-9]{43}", token)
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    given = render(adminToken={"existingSecret": "mine"})
    assert not of_kind(given, "Secret")
    volumes = {volume["name"]: volume for volume in pod(given)["spec"]["volumes"]}
    assert volumes["admin-token"]["secret"]["secretName"] == "mine"


def test_the_alerts_and_the_dashboard_are_those_of_the_compose_file():
    objects = render(monitoring={"operator": True, "dashboard": True})
    monitoring = CHART.parents[1] / "monitoring"
    assert of_kind(objects, "PrometheusRule")[0]["spec"] == yaml.safe_load((monitoring / "alerts.yml").read_text())
    (board,) = of_kind(objects, "ConfigMap")
    assert board["data"]["everdesk.json"] == (monitoring / "dashboards" / "everdesk.json").read_text()
    (monitor,) = of_kind(objects, "ServiceMonitor")
    services = [s for s in of_kind(objects, "Service") if monitor["spec"]["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()]
    assert len(services) == 1 and services[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "everdesk"


def test_values_that_cannot_work_are_refused():
    for values in ({"replicas": 0}, {"shards": 65}, {"founding": {"mode": "often"}}, {"antiAffinity": "none"}):
        try:
            render(**values)
        except helm_python.HelmError as error:
            (key,) = values
            assert key in str(error) and "schema" in str(error), error
            continue
        raise AssertionError(f"{values} was taken")


def main():
    warnings.simplefilter("ignore")
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    failed = 0
    for name, test in tests.items():
        try:
            test()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
